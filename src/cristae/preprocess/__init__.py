"""Pre-processing of raw stacks: registration of slices, warping, equalisation. Arrays in, arrays out."""
