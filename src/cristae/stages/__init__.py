"""The stages: one file each with its settings (the only place for defaults) and the function that does the work.

A stage opens what it needs from the project, calls the kernels, and writes a run. The command line and the Python
interface are thin front ends over these functions.
"""
