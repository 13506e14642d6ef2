"""The engine's verbs for networks: `network create`, `connect`, `port`, … One half of :class:`Engine`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock import events
from minidock.containers import state, wiring
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

if TYPE_CHECKING:
    from minidock.network_view import Node

Json = dict[str, Any]


class NetworkVerbs:
    """What the engine does with networks. *root* is the state root."""

    root: Path

    def network_name(self, text: str) -> str:
        """The name of the network that has this name, id, or unique beginning of an id. Raises NotFound."""
        if text in wiring.PREDEFINED:
            return text
        from minidock.containers import networks

        return networks.find(networks.load(self.root), text).name

    def network_create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnet: list[str] | None = None,
        gateway: list[str] | None = None,
        ip_range: list[str] | None = None,
        internal: bool = False,
        ipv6: bool = False,
        attachable: bool = False,
        aux_address: list[str] | None = None,
        options: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> str:
        """Make a network with its bridge; returns its id. Raises Conflict, InvalidInput."""
        from minidock.containers import bridges, ipam, networks, timestamps
        from minidock.kernel.netlink import Netlink

        if driver != "bridge":
            raise NotFound(f"could not find plugin {driver}: plugin not found", hint="minidock has bridge.")
        network = networks.Network(
            os.urandom(32).hex(),
            name,
            timestamps.now(),
            internal=internal,
            ipv6=ipv6,
            attachable=attachable,
            options=options or {},
            labels=labels or {},
        )
        _check_options(network.options)
        blocks = ipam.blocks(subnet or [], gateway or [], ip_range or [], aux_address or [])
        with networks.locked(self.root) as known, Netlink() as door:
            ipam.predefine(self.root, known)
            ipam.add(self.root, known, network, blocks)
            try:
                bridges.put_up(self.root, known, network, door)
            except BaseException:
                with contextlib.suppress(MinidockError):
                    bridges.remove(self.root, known, network)
                raise
            networks.note(self.root, network, "create")
        return network.id

    def networks(self, filters: dict[str, list[str]] | None = None) -> list[Json]:
        """All networks that fit, in the shape of Docker's API, by name."""
        from minidock import network_inspection, selection

        known = self._known()
        chosen = selection.networks(list(known.values()), filters or {}, self._used())
        return [network_inspection.network_json(each) for each in chosen]

    def network_inspect(self, text: str) -> Json:
        """One network in the shape of Docker's API, with the containers in it. Raises NotFound."""
        from minidock import network_inspection
        from minidock.containers import networks

        return network_inspection.network_json(networks.find(self._known(), text))

    def _known(self) -> dict[str, Any]:
        from minidock.containers import ipam, networks

        with networks.locked(self.root) as known:
            ipam.predefine(self.root, known)
            return known

    def _used(self) -> set[str]:
        """The names of networks that some container, alive or not, is to be in."""
        return {
            attachment.network
            for container in state.containers(self.root)
            for attachment in container.spec.wiring.attachments
        }

    def network_rm(self, text: str) -> str:
        """Remove a network that no running container is in; its name."""
        from minidock.containers import bridges, ipam, networks

        with networks.locked(self.root) as known:
            ipam.predefine(self.root, known)
            network = networks.find(known, text)
            bridges.remove(self.root, known, network)
            networks.note(self.root, network, "destroy")
            return network.name

    def network_prune(self, filters: dict[str, list[str]] | None = None) -> list[str]:
        """Remove the networks that no container is to be in; their names."""
        from minidock import selection

        removed, used = [], self._used()
        for network in selection.prunable_networks(list(self._known().values()), filters or {}):
            if network.name not in used and not network.endpoints:
                removed.append(self.network_rm(network.id))
        events.record(self.root, "network", "prune", "", reclaimed="0")
        return removed

    def network_connect(self, text: str, container_text: str, **wanted: Any) -> None:
        """Put a container into one more network, also while it runs.

        *wanted*: see network_options.attachment. Raises Conflict when it is there already.
        """
        from dataclasses import asdict

        from minidock import network_options
        from minidock.containers import lifecycle, line

        name = self.network_name(text)
        container = state.find(self.root, container_text)
        _check_joins(name, container.spec.namespaces.network)
        links = [network_options.link(each, name, self._id_of) for each in wanted.pop("links", None) or []]
        attachment = network_options.attachment(name, links=links, **wanted)
        network_options.check(attachment)
        with container.lock():
            container.forget_spec()  # somebody may have changed it while we waited
            spec = container.spec
            if any(each.network == name for each in spec.wiring.attachments):
                raise Conflict(f"endpoint with name {container.name} already exists in network {name}")
            if container.running():
                line.ask(container, "exec", op="connect", attachment=asdict(attachment))
            spec.wiring.attachments.append(attachment)
            lifecycle.write_spec(container)

    def network_disconnect(self, text: str, container_text: str, *, force: bool = False) -> None:
        """Take a container out of a network, also while it runs."""
        from minidock.containers import lifecycle, line

        container = state.find(self.root, container_text)
        name = self.network_name(text)
        with container.lock():
            container.forget_spec()
            spec = container.spec
            staying = [each for each in spec.wiring.attachments if each.network != name]
            if len(staying) == len(spec.wiring.attachments):
                raise Conflict(f"container {container.id} is not connected to network {name}")
            if container.running():
                line.ask(container, "exec", op="disconnect", network=name)
            spec.wiring.attachments = staying
            lifecycle.write_spec(container)

    def unlink(self, text: str) -> None:
        """``web/db``: from its next start on the container web knows no other by the name db."""
        from minidock.containers import lifecycle

        name, slash, alias = text.removeprefix("/").partition("/")
        if not slash:
            raise Conflict("Conflict, cannot remove the default link name of the container")
        container = state.find(self.root, name)
        with container.lock():
            container.forget_spec()
            count = 0
            for attachment in container.spec.wiring.attachments:
                staying = [link for link in attachment.links if link.partition(":")[2] != alias]
                count += len(attachment.links) - len(staying)
                attachment.links = staying
            if not count:
                raise NotFound(f"No such link: {text}")
            lifecycle.write_spec(container)

    def _id_of(self, text: str) -> str:
        return state.find(self.root, text).id

    def network_view(self) -> Node:
        """Namespaces, cables, bridges, rules and ports as the kernel has them now: a tree to draw."""
        from minidock import network_view

        return network_view.view(self.root)

    def ports(self, text: str) -> list[Json]:
        """The published ports of a container: port, protocol, host, host_port; none while it does not run."""
        from minidock import network_inspection

        return network_inspection.published(state.find(self.root, text))


def _check_joins(name: str, mode: str) -> None:
    if mode == "host" or name == "host":
        raise Conflict("container cannot be connected to host network or be disconnected from it")
    if mode.startswith("container:"):
        raise Conflict(
            "container sharing network namespace with another container or host "
            "cannot be connected to any other network"
        )
    if name == "none" or mode == "none":
        raise Conflict(
            "container cannot be connected to multiple networks with one of the networks in "
            "private (none) mode"
        )


def _check_options(options: dict[str, str]) -> None:
    from minidock.containers import networks

    for name, value in options.items():
        if name == networks.MTU and not (value.isdecimal() and 68 <= int(value) <= 65535):
            raise InvalidInput(f"invalid value {value!r} for {name}", hint="A number from 68 to 65535.")
        if name in (networks.MASQUERADE, networks.TALK) and value not in ("true", "false"):
            raise InvalidInput(f"invalid value {value!r} for {name}", hint="true or false.")
