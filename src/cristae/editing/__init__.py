"""Kernels of correcting labels by hand: strokes, regions, splits and renaming; arrays in, arrays out."""
