"""What the factory takes in, makes and releases: one package per kind of source, one table per asset."""
