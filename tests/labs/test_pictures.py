"""Pictures of layers and images: what they say is what stands on the disk."""

from __future__ import annotations

import html
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from minidock.engine import Engine
from minidock.lab.images import ImageGraph
from minidock.lab.layers import LayerExplorer, SharedImage
from minidock.lab.networks import NetworkMap
from minidock.lab.pictures import PAGE


def _width(picture: str) -> float:
    found = re.match(r'<svg [^>]*?width="([0-9.]+)"', picture)
    assert found
    return float(found[1])


@pytest.fixture
def explorer(tmp_path: Path) -> LayerExplorer:
    """Three layers with every way to show and to hide."""
    for name, files in {
        "top": {"copied": "longer", "new": "", "dir/mine": "", "made-anew/fresh": ""},
        "middle": {"copied": "old", "dir/other": "", "hidden": "upper one", "made-anew/old": ""},
        "bottom": {"copied": "oldest", "gone": "", "hidden": "lower one", "dir/third": ""},
    }.items():
        for path, text in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    os.mknod(tmp_path / "middle/gone", stat.S_IFCHR, 0)
    os.setxattr(tmp_path / "top/made-anew", "trusted.overlay.opaque", b"y")
    layers = {name: tmp_path / name for name in ("top", "middle", "bottom")}
    return LayerExplorer.of_directories(layers, [])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/new", "comes from top."),
        ("/copied", "a whole copy, 6 bytes. The original stays as it was in middle, 3 bytes."),
        ("/hidden", "comes from middle. It hides what is there in bottom."),
        ("/gone", "deleted. The whiteout in middle hides it; it is still in bottom."),
        ("/dir", "a directory merged from top, middle, bottom."),
        ("/dir/third", "comes from bottom."),
        ("/made-anew", "comes from top, which is opaque, and hides the rest."),
        ("/made-anew/old", "gone. It is still in middle, but a directory above it hides that."),
        ("/never", "no layer has it."),
        ("/new/below", "no layer has it."),
    ],
)
def test_the_explorer_says_why(explorer: LayerExplorer, path: str, said: str) -> None:
    assert said in explorer.explain(path)


def test_the_explorer_draws_every_name_and_has_a_widget(explorer: LayerExplorer) -> None:
    explorer.paths = ["/copied", "/gone", "/a<b"]
    assert all(word in explorer.draw("/gone") for word in ("copy", "6B", "whiteout", "/a&lt;b"))
    shown = explorer._repr_mimebundle_()
    assert _width(explorer._repr_svg_()) <= PAGE
    assert {"image/svg+xml", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(shown)


def test_the_explorer_follows_the_choice_and_looks_again(explorer: LayerExplorer, tmp_path: Path) -> None:
    explorer.paths = ["/copied", "/new"]
    bar, picture, words = explorer.widget().children
    names, again = bar.children
    assert "a whole copy" in words.value and "<svg" in picture.value
    names.value = "/new"
    assert "comes from top" in words.value
    (tmp_path / "top/new").unlink()
    again.click()
    assert "no layer has it" in words.value


def test_the_explorer_keeps_its_picture_when_the_page_has_cleaned_up(
    explorer: LayerExplorer, tmp_path: Path
) -> None:
    explorer.paths = ["/copied", "/new"]
    bar, picture, words = explorer.widget().children
    names, again = bar.children
    for name in ("top", "middle", "bottom"):
        shutil.rmtree(tmp_path / name)
    names.value = "/new"
    assert "comes from top" in words.value
    drawn = picture.value
    again.click()
    assert "gone from the disk: top, middle, bottom" in words.value and picture.value == drawn
    names.value = "/copied"
    assert "a whole copy" in words.value and picture.value != drawn


def test_containers_of_one_image_share_its_layers(busybox: Path) -> None:
    engine = Engine(busybox)
    engine.run("busybox", ["sh", "-c", "rm /etc/group; echo x > /new"], name="one")
    engine.create("busybox", ["true"], name="two")
    explorer = LayerExplorer.of_container(engine, "one", ["/etc/group", "/new"])
    assert "deleted" in explorer.explain("/etc/group") and "container layer" in explorer.explain("/new")
    picture = SharedImage(engine, "busybox", ["one", "two"])
    assert "D /etc/group" in repr(picture) and "two: no change" in repr(picture)
    assert _width(picture._repr_svg_()) <= PAGE


def test_an_image_is_drawn_from_its_files(busybox: Path) -> None:
    engine = Engine(busybox)
    graph = ImageGraph(engine, "busybox")
    image = engine.image("busybox")
    assert graph.parts == ["manifest", "config", "layer 1"]
    assert [graph.digest_of(part) for part in graph.parts] == [image.digest, image.id, image.layers[0].digest]
    assert image.layers[0].digest in graph.content("manifest")
    assert image.diff_ids[0] in graph.content("config")
    assert "bin" in graph.content("layer 1")
    assert image.id[7:15] in graph.draw("config") and image.diff_ids[0][7:15] in repr(graph)
    assert _width(graph._repr_svg_()) <= PAGE
    assert {"image/svg+xml", "text/plain"} <= set(graph._repr_mimebundle_())
    choice, picture, words = graph.widget().children
    before = picture.value
    shutil.rmtree(graph.blobs)  # what a page does to its image when it ends
    choice.value = "config"
    assert image.id.removeprefix("sha256:") in words.value and image.diff_ids[0] in words.value
    assert "<svg" in picture.value and picture.value != before


def test_networks_are_drawn_as_they_are(busybox: Path) -> None:
    engine = Engine(busybox)
    assert "no networks yet" in NetworkMap.of(engine)._repr_svg_()
    engine.network_create("app", ipv6=True, internal=True)
    for name, options in (
        ("web", {"publish": ["8080:80", "[::1]:81:81", "127.0.0.1:90:90/udp"]}),
        ("a-rather-long-name-of-a-container-as-people-give", {"network": ["app"]}),
    ):
        engine.run_detached("busybox", ["sleep", "1000"], name=name, **options)
    engine.run_detached("busybox", ["sleep", "1000"], name="beside", network=["container:web"])
    picture = NetworkMap.of(engine)
    drawn, told = picture._repr_svg_(), repr(picture)
    for words in ("beside, web", "172.17.0.2/16", "02:42:ac:11:00:02", "network app", "net:["):
        assert words in drawn, words
    for words in (
        "tcp 8080 → 172.17.0.2:80",
        "127.0.0.1 udp 90 → 172.17.0.2:90",
        "masquerade",
        "dropped: an internal network",
    ):
        assert words in told and words.split(" → ")[0] in drawn, words
    assert _width(drawn) <= PAGE
    # Nothing is written over the right edge: 7.3 pixels is the widest letter.
    words = r'<text x="([0-9.]+)" y="[0-9.]+" fill="#[0-9a-f]+"[^>]*space="preserve">([^<]*)'
    for x, line in re.findall(words, drawn):
        assert float(x) + 7.3 * len(html.unescape(line)) <= PAGE
    for name in ("beside", "web"):
        engine.rm(name, force=True)
    assert "beside" not in NetworkMap.of(engine)._repr_svg_()
