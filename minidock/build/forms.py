"""What each instruction of a Dockerfile says, as plain values: the vocabulary of a build.

One frozen dataclass an instruction; ADD and COPY share one, for they differ only in what they may
fetch. Texts stand as the Dockerfile has them until `instructions.expanded` puts variables in.

Source: Dockerfile reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from minidock.build.parser import Heredoc, Node


@dataclass(frozen=True, slots=True)
class From:
    """``FROM [--platform=…] image [AS name]``: a new stage begins."""

    node: Node
    image: str
    platform: str = ""
    name: str = ""  # in lower case: stages are found whatever the case


@dataclass(frozen=True, slots=True)
class RunMount:
    """``RUN --mount=type=…``: something that the command may use and that stays out of the image.

    *kind* is ``bind``, ``cache``, ``tmpfs`` or ``secret``. *size* is in bytes. A value that is a
    number and still holds a variable is None until it is expanded. *text* is what was written.
    """

    kind: str
    target: str = ""
    source: str = ""
    from_stage: str = ""
    read_only: bool = False
    identifier: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    required: bool = False
    env: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """``RUN command``: what it changes becomes a layer.

    *command* is one text for the shell, or the words of the exec form. *network* is ``default``,
    ``none`` or ``host``; *security* ``sandbox`` or ``insecure``.
    """

    node: Node
    command: tuple[str, ...]
    exec_form: bool
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """``COPY`` and ``ADD``: files from the context, a stage, a URL or the Dockerfile itself.

    *heredocs* are sources too, beside *sources*; *unpack* is True for ADD, which opens local
    archives. *chown* and *chmod* are as written, empty when not given.
    """

    node: Node
    sources: tuple[str, ...]
    destination: str
    from_stage: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    unpack: bool = False
    checksum: str = ""
    keep_git_dir: bool = False


@dataclass(frozen=True, slots=True)
class Env:
    """``ENV name=value …``: for the following steps and for the containers."""

    node: Node
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label:
    """``LABEL name=value …``: notes about the image that programs can read."""

    node: Node
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Arg:
    """``ARG name[=default] …``: a variable of the build alone. None: no default."""

    node: Node
    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Cmd:
    """``CMD``: what a container runs when the user says nothing else, or the entrypoint's arguments."""

    node: Node
    command: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """``ENTRYPOINT``: what a container runs always."""

    node: Node
    command: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, slots=True)
class Expose:
    """``EXPOSE 80 53/udp``: ports that the program means to listen on. Opens nothing."""

    node: Node
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """``VOLUME /data``: directories that each container gets as a volume of its own."""

    node: Node
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    """``USER name[:group]``: who runs the following steps and the containers."""

    node: Node
    user: str


@dataclass(frozen=True, slots=True)
class Workdir:
    """``WORKDIR path``: where the following steps and the containers start."""

    node: Node
    path: str


@dataclass(frozen=True, slots=True)
class Onbuild:
    """``ONBUILD instruction``: kept for the builds that will start from this image."""

    node: Node
    text: str


@dataclass(frozen=True, slots=True)
class StopSignal:
    """``STOPSIGNAL SIGQUIT``: what `stop` sends first."""

    node: Node
    signal: str


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """``HEALTHCHECK``: how to see from outside whether the program still works.

    *test* is ``("NONE",)``, ``("CMD", word, …)`` or ``("CMD-SHELL", text)``. Times in nanoseconds; 0
    means Docker's default.
    """

    node: Node
    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Shell:
    """``SHELL ["program", "argument"]``: what runs the shell forms from here on."""

    node: Node
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maintainer:
    """``MAINTAINER name``: deprecated; a LABEL says it better."""

    node: Node
    name: str


Instruction = (
    From
    | Run
    | Copy
    | Env
    | Label
    | Arg
    | Cmd
    | Entrypoint
    | Expose
    | Volume
    | User
    | Workdir
    | Onbuild
    | StopSignal
    | HealthCheck
    | Shell
    | Maintainer
)
