"""An image in the making: what each instruction receives from the one before, and hands on changed.

A draft is a config document and a stack of layers, no more. An instruction either changes the config
alone (``ENV``, ``CMD``, …) or adds a layer as well (``RUN``, ``COPY``, …). Each leaves one line in the
config's history. So the digest of the config, the draft's *id*, pins everything that happened so far: it
is the image's id once the draft is written to the store, and the key of the build cache before that.

Source: OCI image specification, config.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from minidock.build import steps
from minidock.images import manifest
from minidock.images.image import OCI_LAYER, Image, Layer, digest_of

Settings = dict[str, Any]
# Docker's own names for the same archives: an OCI manifest does not list those.
_OCI = {
    "application/vnd.docker.image.rootfs.diff.tar": OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{OCI_LAYER}+gzip",
}
_KEPT = ("author", "architecture", "os", "variant", "os.version", "os.features")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Step:
    """What one instruction did: a line of the history. *created* is RFC 3339.

    *created_by* is the instruction as `history` shows it; *layer* None when only the config changed.
    """

    created: str
    created_by: str
    layer: Layer | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """One state of an image in the making. Never changed: every step makes the next one."""

    config: dict[str, Any]  # the whole document
    layers: tuple[Layer, ...] = ()  # bottom first
    origin: str = ""  # the id of the image that this still is; empty after the first step

    @classmethod
    def of(cls, image: Image) -> Draft:
        """The image that ``FROM`` names, as the start of a new one."""
        layers = tuple(
            replace(each, media_type=_OCI.get(each.media_type, each.media_type)) for each in image.layers
        )
        return cls(image.config, layers, image.id)

    @classmethod
    def scratch(cls, platform: str | None = None) -> Draft:
        """Nothing at all: ``FROM scratch``. *platform* as in ``linux/arm64``; None is this machine's."""
        made_for = manifest.parse_platform(platform) if platform else manifest.host_platform()
        config = {
            "architecture": made_for.architecture,
            "os": made_for.system,
            **({"variant": made_for.variant} if made_for.variant else {}),
            "config": {"Env": [DEFAULT_PATH]},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        }
        return cls(config)

    @property
    def id(self) -> str:
        """The id that the image would have now: "sha256:…"."""
        return self.origin or digest_of(json.dumps(self.config).encode())

    @property
    def settings(self) -> Settings:
        """What a container of it would start with: Env, Cmd, User, …"""
        return self.config.get("config") or {}

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.config.get("history") or []

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    def after(self, step: Step, settings: Settings, author: str = "") -> Draft:
        """The next draft: *settings* are its config, *step* its last line of history."""
        kept = {key: self.config[key] for key in _KEPT if self.config.get(key)}
        if author:
            kept["author"] = author
        entry: dict[str, Any] = {"created": step.created, "created_by": step.created_by}
        if "author" in kept:
            entry["author"] = kept["author"]
        if step.comment:
            entry["comment"] = step.comment
        before = {
            "created": "",
            **kept,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            "history": self.history,
        }
        if step.layer is None:
            return Draft(steps.committed(before, settings, entry, None), self.layers)
        config = steps.committed(before, settings, entry, step.layer.diff_id)
        return Draft(config, (*self.layers, step.layer))

    def with_settings(self, settings: Settings) -> Draft:
        """The same with another config: what ``FROM`` itself adjusts. It shows from the next step on."""
        return replace(self, config={**self.config, "config": settings})
