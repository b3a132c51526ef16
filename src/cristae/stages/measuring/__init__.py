"""The rooms of `cristae measure`: layers, walks over blocks, one module per family of features, tables."""
