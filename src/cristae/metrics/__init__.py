"""Measures of how well a result agrees with the truth: per voxel and per object. Pure kernels on NumPy arrays."""
