"""What ``$NAME`` means at one place of a Dockerfile: ARG, ENV, and who wins.

* ENV is part of the image, so it goes on into the containers and into the stages made from this one.
  ARG is for the build alone, from its line to the end of the stage, and in the stages made from it.
* Where both have a name, ENV wins.
* An ARG before the first FROM counts in FROM lines. A stage gets its value by ``ARG name``, without =.
* ``--build-arg`` replaces the default of an ARG, and says nothing where no ARG asks.
* Some names need no ARG: the proxies, which every RUN gets though they are in no image and in no key of
  the cache; and the platforms (``TARGETARCH``, …), which FROM lines may use.

Source: Dockerfile reference, "ARG", "Scope", "Predefined ARGs", "Automatic platform ARGs".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minidock.build.instructions import Arg
from minidock.images import manifest

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PREDEFINED = frozenset((*_PROXIES, *(name.lower() for name in _PROXIES)))


def platform_arguments(target: str) -> dict[str, str]:
    """``TARGETPLATFORM``, ``BUILDARCH``, …: *target* is --platform, empty for this machine."""
    build = manifest.host_platform()
    wanted = manifest.parse_platform(target) if target else build
    return {
        f"{prefix}{suffix}": value
        for prefix, platform in (("TARGET", wanted), ("BUILD", build))
        for suffix, value in (
            ("PLATFORM", str(platform)),
            ("OS", platform.system),
            ("ARCH", platform.architecture),
            ("VARIANT", platform.variant),
        )
    }


class Variables:
    """The variables of one stage, or those before the first FROM; ARG adds to them.

    *outside* are the values that an ARG without a default may take: those of the ARGs before FROM, and
    the platforms. *given* is what --build-arg says. *below* are those of the stage that this one is made
    from.
    """

    def __init__(
        self, given: Mapping[str, str], outside: Mapping[str, str], below: Variables | None = None
    ) -> None:
        self._given, self._outside = given, outside
        self.arguments: dict[str, str] = dict(below.arguments) if below else {}  # declared, with a value
        self.declared: set[str] = set(below.declared) if below else set()

    def declare(self, instruction: Arg) -> None:
        """Carry out an ARG, its texts expanded already."""
        for name, default in instruction.pairs:
            self.declared.add(name)
            value = self._given.get(name, default if default is not None else self._outside.get(name))
            if value is not None:
                self.arguments[name] = value

    def known(self, environment: Iterable[str] = ()) -> dict[str, str]:
        """All names with their values. *environment* is the image's Env."""
        return {**self.arguments, **_pairs(environment)}

    def for_run(self, environment: Iterable[str]) -> tuple[list[str], list[str]]:
        """What RUN gets beside *environment*: the ARGs, sorted; and all of it, the proxies too.

        The ARGs are part of the history and so of the cache's key, whether or not the command reads them.
        """
        set_by_env = _pairs(environment)
        shown = {name: value for name, value in self.arguments.items() if name not in set_by_env}
        proxies = {name: self._given[name] for name in PREDEFINED & self._given.keys() - set_by_env.keys()}
        return _entries(shown), _entries({**proxies, **shown})


def _pairs(environment: Iterable[str]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in environment)


def _entries(pairs: Mapping[str, str]) -> list[str]:
    return [f"{name}={pairs[name]}" for name in sorted(pairs)]
