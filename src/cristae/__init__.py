"""cristae."""
