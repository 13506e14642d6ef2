"""Listening: a Unix socket that the group `minidock` may use, and TCP for those who insist.

Whoever may speak to this API is root on this machine: they can mount its disk into a container. So the
socket is 0660 root:minidock, and TCP asks for a client's certificate, or is bound to loopback.

The daemon keeps nothing in memory that matters. When it ends, however, containers run on; what is
started again finds everything as it was.
"""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from minidock.engine import Engine
from minidock.errors import Conflict, InvalidInput, MinidockError
from minidock.server import endpoints, tls
from minidock.server.handler import Handler

DEFAULT = "unix:///run/minidock.sock"
GROUP = "minidock"
_BACKLOG = 512
_KEEPALIVE = 15  # seconds of silence on TCP, as Go's; the kernel forgets a closed socket after a minute


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of --tlsverify: who signs clients' certificates, and what we show them."""

    authority: Path
    certificate: Path
    key: Path


def serve(engine: Engine, hosts: Sequence[str], certificates: Certificates | None = None) -> None:
    """Answer on *hosts* (``unix://PATH``, ``tcp://ADDRESS:PORT``) until SIGTERM or SIGINT.

    Raises InvalidInput for what is no such address, Conflict where somebody listens already.
    """
    table = endpoints.table()
    handler = type("Handler", (Handler,), {"engine": engine, "table": table})
    context = (
        tls.context(certificates.authority, certificates.certificate, certificates.key)
        if certificates
        else None
    )
    with contextlib.ExitStack() as stack:
        servers = []
        for host in hosts or [DEFAULT]:
            listener = stack.enter_context(_listen(host, secured=context is not None))
            secret = context if listener.family != socket.AF_UNIX else None
            servers.append(Server(listener, handler, secret))
            _say(f"API listens on {host}")
        _run(servers)


def _say(text: str) -> None:
    print(f"minidock serve: {text}", file=sys.stderr, flush=True)


def _run(servers: list[Server]) -> None:
    # Python calls a handler between two of its steps, and a signal just before the wait below would find
    # none to come. So C writes to a pipe, at once.
    over, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for server in servers:
        threading.Thread(target=server.serve_forever, name="listen", daemon=True).start()
    os.read(over, 1)


class Server(ThreadingMixIn, TCPServer):
    """A thread for each connection on a socket that listens already."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: Any, secret: Any) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._secret = secret

    def get_request(self) -> tuple[Any, Any]:
        connection, address = self.socket.accept()
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Who hangs up looks like who has no more to say, until the kernel asks whether anybody is there.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE)
        return connection, address or ("", 0)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self._secret is not None:
            request = tls.unwrapped(request, self._secret)
            if request is None:
                return
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What reaches this is a bug; the daemon goes on."""
        import traceback

        traceback.print_exc(file=sys.stderr)


# --- addresses -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _listen(host: str, *, secured: bool) -> Any:
    scheme, separator, where = host.partition("://")
    if not separator:
        scheme, where = ("unix", host) if host.startswith("/") else ("tcp", host)
    if scheme == "unix" and where.startswith("/"):
        with _unix(Path(where)) as listener:
            yield listener
    elif scheme == "tcp":
        with _tcp(where, secured=secured) as listener:
            yield listener
    else:
        raise InvalidInput(
            f"invalid host {host!r}", hint="Write unix:///run/minidock.sock or tcp://127.0.0.1:2375."
        )


@contextlib.contextmanager
def _unix(path: Path) -> Any:
    """A socket file that belongs to us as long as we listen."""
    with socket.socket(socket.AF_UNIX) as listener:
        _make_way(path)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            why = error.strerror or str(error)
            raise MinidockError(f"cannot listen on {path}: {why.lower()}") from None
        finally:
            os.umask(before)
        number = os.stat(path).st_ino
        try:
            os.chown(path, 0, grp.getgrnam(GROUP).gr_gid)
        except KeyError:
            _say(f"there is no group {GROUP}: only root may use {path} (groupadd --system {GROUP})")
        os.chmod(path, 0o660)
        listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == number:  # else another has taken the place
                    os.unlink(path)


def _make_way(path: Path) -> None:
    """Remove the socket file of a daemon that was killed. Raises Conflict when one answers there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if not path.is_socket():
                raise Conflict(f"{path} exists and is no socket") from None
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise MinidockError(
                f"cannot listen on {path}: {(error.strerror or str(error)).lower()}"
            ) from None
    raise Conflict(f"somebody listens on {path} already", hint="Stop that daemon, or give another --host.")


@contextlib.contextmanager
def _tcp(where: str, *, secured: bool) -> Any:
    name, _, port = where.rpartition(":")
    name = name.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"invalid host tcp://{where}", hint="Write tcp://127.0.0.1:2375.")
    try:
        found = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise InvalidInput(f"invalid host tcp://{where}: {error.strerror or error}") from None
    family, _, _, _, address = found
    local = str(address[0]).startswith("127.") or address[0] == "::1"
    if not secured:
        if not local:
            raise InvalidInput(
                f"tcp://{where} without TLS would make everyone who reaches this port root here",
                hint="Use --tlsverify with --tlscacert, --tlscert and --tlskey, or bind to 127.0.0.1.",
            )
        _say(f"WARNING: tcp://{where} has no TLS.")
        _say("WARNING: EVERY USER AND PROGRAM OF THIS MACHINE, WEB PAGES IN A BROWSER AMONG THEM,")
        _say("WARNING: IS ROOT FROM NOW ON.")
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise MinidockError(f"cannot listen on tcp://{where}: {(error.strerror or '').lower()}") from None
        listener.listen(_BACKLOG)
        yield listener
