"""The Docker Engine API over the engine: HTTP in, engine verbs, JSON out. No state of its own."""
