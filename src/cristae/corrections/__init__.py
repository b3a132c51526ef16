"""Corrections by hand of a layer of labels: journaled, undone and done again, and never in the layer itself."""
