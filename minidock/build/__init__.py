"""Floor 4: Dockerfiles become images: parser, word expansion, copying, cache, steps."""
