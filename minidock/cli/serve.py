"""``minidock serve``: the Docker Engine API over this engine, for the real `docker` command and its like."""

from __future__ import annotations

from pathlib import Path

from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, repeated


def serve(context: Context, values: Values, arguments: list[str]) -> int:
    """Answer until the process is told to end; containers run on without it."""
    from minidock.server import listen

    files = [values["tlscacert"], values["tlscert"], values["tlskey"]]
    if values["tlsverify"] and not all(files):
        raise UsageError("--tlsverify needs --tlscacert, --tlscert and --tlskey")
    if any(files) and not values["tlsverify"]:
        raise UsageError("without --tlsverify everybody could connect: give it, too")
    certificates = listen.Certificates(*map(Path, files)) if values["tlsverify"] else None
    listen.serve(context.engine, values["host"], certificates)
    return 0


COMMANDS = {
    "serve": Command(
        "serve [OPTIONS]",
        "Answer the docker command and other clients of the Docker Engine API",
        serve,
        (
            repeated(
                "host",
                "H",
                "Where to listen: unix://PATH or tcp://ADDRESS:PORT (default unix:///run/minidock.sock)",
            ),
            boolean("tlsverify", help="TCP: use TLS, and let in only clients with a certificate"),
            Flag("tlscacert", help="Who must have signed the clients' certificates"),
            Flag("tlscert", help="Our certificate"),
            Flag("tlskey", help="Our key"),
        ),
        most=0,
    ),
}
