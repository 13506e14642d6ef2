"""Compose: several containers that belong together, described in one file (a face over the engine)."""
