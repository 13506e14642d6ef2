"""Floor 3: one container's specification, shim and life."""
