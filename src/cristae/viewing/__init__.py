"""Looking at a project: which layers there are and how they look, in napari or, in a browser, in neuroglancer."""
