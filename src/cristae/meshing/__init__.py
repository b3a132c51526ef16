"""Meshes of objects: marching cubes in blocks, joining, smoothing, simplification. Pure functions of arrays."""
