"""The pictures of lessons 02 and 03, drawn from numbers that are known."""

from __future__ import annotations

import errno
from typing import Any
from xml.etree import ElementTree

import pytest

from minidock.lab.gauge import Gauge
from minidock.lab.namespace_map import NamespaceMap


def words(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")]


def test_the_namespace_map_shows_a_shared_namespace_once() -> None:
    drawn = NamespaceMap({"host": {"pid": 1, "net": 2}, "a": {"pid": 3, "net": 4}, "b": {"pid": 5, "net": 4}})
    assert drawn.groups("net") == [["host"], ["a", "b"]]
    assert drawn.groups("pid") == [["host"], ["a"], ["b"]]
    assert words(drawn._repr_svg_()).count("4") == 1
    assert repr(drawn).splitlines()[0].split() == ["host", "a", "b"]


class Pretended:
    """A cgroup that counts what it is told."""

    def __init__(self) -> None:
        self.applied: list[dict[str, Any]] = []

    def apply(self, **limits: Any) -> None:
        self.applied.append(limits)

    def statistics(self) -> dict[str, Any]:
        return {"cpu_usage": 5, "memory_working": 3 << 20, "memory_limit": 8 << 20, "pids": 2}


def test_the_gauge_moves_the_limits_and_draws_what_it_read() -> None:
    group = Pretended()
    gauge = Gauge(group, most_memory=16)
    assert repr(gauge) == "no reading yet"
    gauge.limit(cpus=0.5, memory=8)
    assert group.applied == [
        {"cpu_quota": 50_000, "cpu_period": 100_000},
        {"memory": 8 << 20, "memory_swap": 8 << 20},
    ]
    gauge.watch(readings=70, every=0)
    assert len(gauge.samples) == 60
    assert {"limit 0.5", "limit 8 MiB", "now 3.00 MiB", "processes: 2"} <= set(words(gauge._repr_svg_()))
    assert {"image/svg+xml", "text/plain"} < set(gauge._repr_mimebundle_())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "This cgroup is gone: its container was removed. Run this cell again."),
        (
            errno.EBUSY,
            "The kernel keeps the old limit: more than the new one is in use. Try again in a moment.",
        ),
        (errno.EINVAL, "<code>[Errno 22] memory.max&lt;</code>"),
    ],
)
def test_a_slider_says_why_a_limit_was_not_moved(number: int, said: str) -> None:
    class Refused(Pretended):
        def apply(self, **limits: Any) -> None:
            raise OSError(number, "memory.max<")

    sliders, _, say = Gauge(Refused()).widget().children
    sliders.children[1].value = 0.5
    assert say.value == said


def test_the_sliders_stand_where_the_limits_are() -> None:
    gauge = Gauge(Pretended(), most_memory=16)
    gauge.limit(cpus=0.5)
    sliders, _, _ = gauge.watch(readings=1, every=0).widget().children
    assert [slider.value for slider in sliders.children[1:]] == [0.5, 8]
