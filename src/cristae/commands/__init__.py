"""Commands that need more than a few lines, for `cristae.cli`. Nothing heavy is imported before one runs."""
