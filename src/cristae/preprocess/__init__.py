"""Kernels for raw stacks: looking over them, registration of slices, warping, equalisation. Arrays in, arrays out."""
