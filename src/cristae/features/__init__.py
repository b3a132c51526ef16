"""Features of objects: shape, texture, relations. Kernels of arrays; the measuring stage lifts them to volumes."""
