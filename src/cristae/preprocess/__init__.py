"""Kernels for what the microscope wrote: looking over a stack before anything is learnt from it."""
