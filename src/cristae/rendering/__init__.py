"""Pictures of meshes without any graphics hardware or library: camera, rasteriser, shading; pure functions."""
