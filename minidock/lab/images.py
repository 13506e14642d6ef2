"""A picture of an image: the name, the manifest, the config and the layers, each by its digest."""

from __future__ import annotations

import html
import json
import tarfile
from pathlib import Path
from typing import Any

from minidock import human
from minidock.engine import Engine
from minidock.lab import svg
from minidock.lab.pictures import PAGE
from minidock.lab.svg import Drawing

_CONFIG_WORDS = ("Entrypoint", "Cmd", "WorkingDir", "User", "Env", "ExposedPorts", "Volumes")
_BOX, _STEP = 58, 72  # pixels: a box's height, and from one layer to the next
_LISTED = 12  # names shown of a layer's archive


class ImageGraph:
    """An image as it stands on the disk: who points to whom, by digest.

    In a running notebook, choose a part to see the file behind it.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.image = engine.image(name)
        self.blobs = Path(engine.root) / "images" / "blobs" / "sha256"
        self.names = [engine.familiar_name(each) for each in self.image.names] or ["<none>"]
        self.manifest_size = self._file("manifest").stat().st_size
        self.unpacked_sizes = [self.image.layer_size(layer) for layer in self.image.layers]

    @property
    def parts(self) -> list[str]:
        """What can be chosen: manifest, config, layer 1, …"""
        return ["manifest", "config", *(f"layer {n}" for n in range(1, len(self.image.layers) + 1))]

    def digest_of(self, part: str) -> str:
        """The digest of a part, "sha256:…": the name of its file."""
        if part == "manifest":
            return self.image.digest
        return self.image.id if part == "config" else self.image.layers[_number(part)].digest

    def content(self, part: str) -> str:
        """What is in the part's file: a document as it is, of a layer the first names."""
        path = self._file(part)
        if part in ("manifest", "config"):
            return json.dumps(json.loads(path.read_bytes()), indent=2)
        with tarfile.open(path) as archive:
            names = [member.name for member, _ in zip(archive, range(_LISTED + 1), strict=False)]
        return "\n".join(names[:_LISTED] + ["…"] * (len(names) > _LISTED))

    def _file(self, part: str) -> Path:
        return self.blobs / self.digest_of(part).removeprefix("sha256:")

    # --- how it is shown

    def draw(self, chosen: str = "") -> str:
        """The picture as SVG; the part *chosen* is drawn in another colour."""
        rows = len(self.image.layers)
        height = 40 + _BOX + 34 + rows * _STEP + 10
        drawing = Drawing(PAGE, height, f"The parts of {self.names[0]}")
        for left, words in ((14, "name (tag)"), (158, "manifest"), (316, "blobs"), (528, "settings")):
            drawing.text(left, 24, words, bold=True)
        drawing.text(528, 40 + _BOX + 26, "unpacked layers", bold=True)
        middle = 40 + _BOX / 2

        def colour(part: str, usual: str) -> str:
            return "#f8cf8f" if part == chosen else usual

        drawing.labelled_box(14, 40, 116, _BOX, svg.ORANGE, "\n".join(self.names[:2]))
        words = f"{_cut(self.image.digest)}\n{self.manifest_size} bytes"
        drawing.labelled_box(158, 40, 110, _BOX, colour("manifest", svg.BLUE), words)
        words = f"config {_cut(self.image.id)}\n= the image id"
        drawing.labelled_box(316, 40, 164, _BOX, colour("config", svg.GREEN), words)
        drawing.line(130, middle, 156, middle, arrow=True)
        drawing.line(268, middle, 314, middle, arrow=True)
        for text, top in zip(self._settings(), (56, 74, 92), strict=False):
            drawing.text(528, top, human.shortened(text, 25), colour=svg.SOFT)
        for number, layer in enumerate(self.image.layers):
            top = 40 + _BOX + 34 + number * _STEP
            part = f"layer {number + 1}"
            words = f"{part} {_cut(layer.digest)}\n{human.size(layer.size)} compressed"
            drawing.labelled_box(316, top, 164, _BOX, colour(part, svg.GREY), words)
            words = f"diff id {_cut(layer.diff_id)}\n{human.size(self.unpacked_sizes[number])} of files"
            drawing.labelled_box(528, top, 178, _BOX, svg.PAPER, words)
            drawing.line(480, top + _BOX / 2 + 8, 526, top + _BOX / 2 + 8, arrow=True)
            drawing.line(292, top + _BOX / 2, 314, top + _BOX / 2, arrow=True)
            drawing.line(504, top + _BOX / 2 - 8, 526, top + _BOX / 2 - 8, arrow=True)
        last = 40 + _BOX + 34 + (rows - 1) * _STEP + _BOX / 2
        drawing.line(292, middle, 292, last)  # the manifest's list of layers
        drawing.line(504, middle, 504, last - 8)  # the config's list of diff ids
        drawing.line(480, middle, 504, middle)
        return drawing.render()

    def _settings(self) -> list[str]:
        found = self.image.settings
        return [f"{key}: {json.dumps(found[key])}" for key in _CONFIG_WORDS if found.get(key)]

    def _repr_svg_(self) -> str:
        return self.draw()

    def __repr__(self) -> str:
        layers = "\n".join(
            f"  layer {number}: {_cut(layer.digest)} → diff id {_cut(layer.diff_id)}"
            for number, layer in enumerate(self.image.layers, 1)
        )
        return (
            f"{', '.join(self.names)} → manifest {_cut(self.image.digest)}\n"
            f"  config {_cut(self.image.id)} = the image id\n{layers}"
        )

    def widget(self) -> Any:
        """The picture with a choice of parts, and the file behind the chosen one."""
        import ipywidgets

        # Read now: a page may remove its image before the reader chooses.
        contents = {part: self.content(part) for part in self.parts}
        choice = ipywidgets.ToggleButtons(options=self.parts, style={"button_width": "auto"})
        picture, words = ipywidgets.HTML(), ipywidgets.HTML()

        def show(_: Any = None) -> None:
            part = choice.value
            picture.value = self.draw(part)
            words.value = (
                f"<p><b>{part}</b>: blobs/sha256/{self._file(part).name}</p>"
                f'<pre style="max-height:24em;overflow:auto">{html.escape(contents[part])}</pre>'
            )

        choice.observe(show, "value")
        show()
        return ipywidgets.VBox([choice, picture, words])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            **self.widget()._repr_mimebundle_(),
            "image/svg+xml": self.draw(),
            "text/plain": repr(self),
        }


def _number(part: str) -> int:
    return int(part.partition(" ")[2]) - 1


def _cut(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')[:8]}…"
