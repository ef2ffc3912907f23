"""A real task that needs no download, and training of the paper's architectures."""
