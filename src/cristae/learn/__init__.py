"""Learning from sparse slices and applying what was learnt: patches, losses, the loop, inference."""
