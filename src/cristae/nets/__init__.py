"""The networks: one file each, one registry. Pure PyTorch modules that know neither volumes nor files."""
