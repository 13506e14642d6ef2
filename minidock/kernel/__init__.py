"""Floor 1: what Linux offers a container engine, one file a mechanism."""
