"""Floor 2: references, the store, layers and registries."""
