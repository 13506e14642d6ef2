"""Instructions as they are read from the nodes of a Dockerfile; the values are those of forms.py."""

from __future__ import annotations

from minidock.build.forms import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    RunMount,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)

__all__ = [
    "Arg",
    "Cmd",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "HealthCheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Onbuild",
    "Run",
    "RunMount",
    "Shell",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
]
