"""Benchmarks: one module per row, each with ``run(quick) -> Result``. See ``python -m benchmarks``."""

ROWS = (
    "demo",
    "vnc_mitochondria",
    "hela_mitochondria",
    "flyem_boundary",
    "transfer",
    "predict_throughput",
    "openvino",
    "seams",
    "predict_memory",
    "help_latency",
    "cells_flyem10",
    "cells_flyem25",
    "cells_gala10",
    "cells_ohsu",
    "cells_phantom",
    "cells_speed",
    "track_ohsu",
    "track_speed",
    "measure_morphology",
    "measure_glcm",
    "measure_zones",
    "measure_spectrum",
    "measure_scale",
    "measure_real",
)
"""Names of all rows, in the order of the table."""
