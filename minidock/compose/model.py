"""What the files of a project say, all told: the value that every verb works with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minidock.compose.reading import ComposeError, Map


@dataclass(slots=True)
class Project:
    """Services, networks and volumes that belong together, ready to be run.

    *services* are those that the profiles leave, *dormant* the others; all in the long form of forms.py.
    """

    name: str
    directory: str
    files: list[str]
    services: dict[str, Map]
    dormant: dict[str, Map]
    networks: dict[str, Map]
    volumes: dict[str, Map]
    secrets: dict[str, Map]
    configs: dict[str, Map]
    variables: Mapping[str, str]
    extensions: dict[str, Any]

    def service(self, name: str) -> Map:
        """Raises ComposeError, naming the nearest."""
        if name in self.services:
            return self.services[name]
        import difflib

        close = difflib.get_close_matches(name, self.services, n=1)
        known = ", ".join(self.services) or "none"
        hint = f'Did you mean "{close[0]}"?' if close else f"Services here: {known}."
        raise ComposeError(f"no such service: {name}", hint=hint)

    def needs(self, names: Iterable[str] | None = None) -> dict[str, set[str]]:
        """Which of the services *names* (all, without) needs which others."""
        chosen = self.services if names is None else names
        return {name: set(self.services[name].get("depends_on") or {}) for name in chosen}

    def chosen(self, names: Iterable[str]) -> list[str]:
        """*names*, checked; all services when there are none."""
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            self.service(name)
        return wanted or list(self.services)
