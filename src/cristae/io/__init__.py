"""Reading and writing volumes: OME-Zarr inside a project, image files at its doors."""
