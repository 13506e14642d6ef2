"""A container's networks, as its shim holds them: reserved before it runs, plugged in while it is born.

The order is what keeps it whole. First, under the lock of the networks, addresses and ports are taken and
written down. Then, while the newborn process builds its root filesystem, the cable is laid into its network
and its ports are published; the newborn waits until that is done. At the end all of it goes back: what the
kernel holds (sockets, cables) also when the shim is killed, what the files hold by whoever comes next.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from minidock.containers import bridges, etc, ipam, links, networks, ports
from minidock.containers.loop import Loop
from minidock.containers.nameserver import NameServer
from minidock.containers.networks import Endpoint, Network
from minidock.containers.proxy import Door
from minidock.containers.state import Container
from minidock.containers.wiring import DEFAULT, Attachment
from minidock.errors import MinidockError, NotFound
from minidock.kernel import nat, net
from minidock.kernel.netlink import Netlink

if TYPE_CHECKING:
    from minidock.containers.etc import Place

_LOOPBACK = 1  # the number of lo in every network


class Cables:
    """The cables, ports and name server of one container."""

    def __init__(self, container: Container, loop: Loop) -> None:
        self._container, self._loop = container, loop
        self._doors: list[Door] = []
        self._names: NameServer | None = None
        self._mine: set[str] = set()  # the ids of our endpoints
        self._joined: list[Network] = []  # as `events` has told

    # --- the beginning ---------------------------------------------------------------------------

    def reserve(self) -> None:
        """Take addresses and ports, and write the container's own /etc files.

        Raises NotFound for a network that is gone, Conflict for an address or port that is taken.
        """
        container, spec = self._container, self._container.spec
        with networks.locked(container.root) as known, Netlink() as door:
            last_life = (each.endpoints.get(container.id) for each in known.values())
            networks.evict(container.root, known, {endpoint.id for endpoint in last_life if endpoint})
            places: list[Place] = []
            for number, attachment in enumerate(spec.wiring.attachments):
                places.append(self._take_place(known, attachment, f"eth{number}", door))
            self._choose_gateway(places, known)
            for network, _ in places:
                networks.save(container.root, network)
                self._note_join(network)
        self._write_names(places)

    def _take_place(
        self, known: dict[str, Network], attachment: Attachment, inside: str, door: Netlink
    ) -> Place:
        """An endpoint in one network, whose bridge is there from now on. The lock is held."""
        container = self._container
        if attachment.network == DEFAULT:
            ipam.predefine(container.root, known, DEFAULT)
        network = known.get(attachment.network)
        if network is None:
            raise NotFound(f"network {attachment.network} not found", hint="minidock network ls shows all.")
        bridges.put_up(container.root, known, network, door)
        name = container.spec.name
        endpoint = Endpoint(os.urandom(32).hex(), name, inside=inside, aliases=list(attachment.aliases))
        endpoint.cable, endpoint.links = f"veth{os.urandom(4).hex()[:7]}", list(attachment.links)
        endpoint.link_local = list(attachment.link_local)
        ipam.allocate(network, endpoint, attachment)
        endpoint.mac = attachment.mac or bridges.mac_of(endpoint.ip)
        network.endpoints[container.id] = endpoint
        self._mine.add(endpoint.id)
        links.tell(container, network)
        return network, endpoint

    def _choose_gateway(self, places: list[Place], known: dict[str, Network]) -> None:
        """One network leads to the world, and takes the published ports: the first that leads anywhere."""
        leading = next((place for place in places if not place[0].internal), None)
        for _, endpoint in places:
            endpoint.gateway = leading is not None and endpoint is leading[1]
            endpoint.ports = []
        if leading is None:
            return
        _, endpoint = leading
        self._doors = ports.hold(endpoint, ports.wanted(self._container.spec), known.values())
        endpoint.ports = [door.port for door in self._doors]

    def plug(self, namespace: int) -> None:
        """Lay the cables into a network namespace, publish the ports, start the name server."""
        places = self._places()
        waiting = self._publish(places)
        try:
            with Netlink() as host, Netlink(namespace) as box:
                net.link_up(box, _LOOPBACK)
                names = self._answer_names(places, namespace)
                for place in places:
                    self._lay(place, host, box, namespace)
                self._lead_out(places, box)
                if names is not None:
                    names.finish()
        finally:
            if waiting is not None:
                self._published(waiting)
        for door in self._doors:
            door.open(self._loop)

    def _lay(self, place: Place, host: Netlink, box: Netlink, namespace: int) -> None:
        network, endpoint = place
        bridge = net.index_of(host, network.bridge)
        net.add_cable(host, endpoint.cable, bridge, namespace, endpoint.inside, endpoint.mac, network.mtu)
        port = net.index_of(host, endpoint.cable)
        net.allow_hairpin(host, port)
        if network.isolates:
            net.isolate(host, port)
        index = net.index_of(box, endpoint.inside)
        for block in network.blocks:
            prefix = int(block.subnet.rpartition("/")[2])
            net.add_address(box, index, endpoint.ip6 if block.is_ipv6 else endpoint.ip, prefix)
        for address in endpoint.link_local:
            net.add_address(box, index, address, 64 if ":" in address else 16)
        net.link_up(box, index, ipv6=bool(endpoint.ip6))

    def _lead_out(self, places: list[Place], box: Netlink) -> None:
        for network, endpoint in places:
            if endpoint.gateway:
                for block in network.blocks:
                    net.default_route(box, block.gateway)

    def _publish(self, places: list[Place]) -> nat.Pending | None:
        direct = [port for _, place in places for port in place.ports if networks.by_kernel(port)]
        return nat.publish(networks.table(self._container.root), direct) if direct else None

    def _published(self, waiting: nat.Pending) -> None:
        try:
            waiting.finish()
        except MinidockError:  # somebody emptied the packet filter: write all of it again
            with networks.locked(self._container.root) as known:
                networks.filter_packets(self._container.root, known)

    def _answer_names(self, places: list[Place], namespace: int) -> NameServer | None:
        """Start the name server where one is needed and none is; call `finish` on it."""
        if self._names is not None or not any(network.resolves_names for network, _ in places):
            return None
        outward = any(not network.internal for network, _ in places)
        servers = etc.servers(self._container.spec) if outward else []
        self._names = NameServer(self._loop, self._container, namespace, servers)
        return self._names

    def _write_names(self, places: list[Place]) -> None:
        linked = links.hosts(self._container, [network for network, _ in places])
        etc.write(self._container, places, linked)

    def _places(self) -> list[Place]:
        """Where the container is, in the order of its interfaces."""
        known = networks.load(self._container.root)
        found = [
            (network, network.endpoints[self._container.id])
            for network in known.values()
            if self._container.id in network.endpoints
        ]
        return sorted(found, key=lambda place: (len(place[1].inside), place[1].inside))

    # --- while it runs ---------------------------------------------------------------------------

    def connect(self, pid: int, attachment: Attachment) -> None:
        """Join one more network: `network connect` of a container that runs."""
        root = self._container.root
        with networks.locked(root) as known, Netlink() as host, _network_of(pid) as namespace:
            taken = {place[1].inside for place in self._places()}
            inside = next(name for number in range(99) if (name := f"eth{number}") not in taken)
            network, _ = place = self._take_place(known, attachment, inside, host)
            with Netlink(namespace) as box:
                self._lay(place, host, box, namespace)
                networks.save(root, network)
                self._note_join(network)
                self._container.spec.wiring.attachments.append(attachment)
                self._rearrange(known, box, namespace)

    def disconnect(self, pid: int, name: str) -> None:
        """Leave a network: `network disconnect` of a container that runs."""
        root, identifier = self._container.root, self._container.id
        with networks.locked(root) as known, _network_of(pid) as namespace, Netlink(namespace) as box:
            network = networks.find(known, name)
            endpoint = network.endpoints.pop(identifier)
            networks.save(root, network)
            self._joined = [each for each in self._joined if each.id != network.id]
            networks.note(root, network, "disconnect", container=identifier)
            networks.withdraw(root, known, endpoint.ports)
            net.remove_link(box, net.index_of(box, endpoint.inside))
            wiring = self._container.spec.wiring
            wiring.attachments = [each for each in wiring.attachments if each.network != network.name]
            self._rearrange(known, box, namespace)

    def _rearrange(self, known: dict[str, Network], box: Netlink, namespace: int) -> None:
        """After a change: another network may now lead out, and serve the ports. The lock is held."""
        places = self._places()
        leading = next((place for place in places if not place[0].internal), None)
        if leading is not None and not leading[1].gateway:
            for network, endpoint in places:
                networks.withdraw(self._container.root, known, endpoint.ports)
                known[network.name] = network
            self._close_doors()
            self._choose_gateway(places, known)
            for network, _ in places:
                networks.save(self._container.root, network)
            waiting = self._publish(places)
            self._lead_out(places, box)
            if waiting is not None:
                waiting.finish()
            for door in self._doors:
                door.open(self._loop)
        names = self._answer_names(places, namespace)
        if names is not None:
            names.finish()
        self._write_names(places)

    # --- the end ---------------------------------------------------------------------------------

    def _close_doors(self) -> None:
        for door in self._doors:
            door.close(self._loop)
        self._doors = []

    def _note_join(self, network: Network) -> None:
        self._joined.append(network)
        networks.note(self._container.root, network, "connect", container=self._container.id)

    def note_end(self) -> None:
        """Tell `events` that the container has left its networks."""
        for network in self._joined:
            networks.note(self._container.root, network, "disconnect", container=self._container.id)
        self._joined = []

    def free_ports(self) -> None:
        """Let the host's ports go before anyone hears of the end: the next container may want them."""
        self._close_doors()

    def release(self) -> None:
        """Give back everything: addresses, ports, cables. Nobody waits for it any more."""
        self.note_end()
        self._close_doors()
        if self._names is not None:
            self._names.close()
            self._names = None
        if not self._mine:
            return
        mine, self._mine = self._mine, set()
        with contextlib.suppress(MinidockError, OSError):
            root = self._container.root
            with networks.locked(root, make=False) as known:
                networks.evict(root, known, mine)


@contextmanager
def _network_of(pid: int) -> Iterator[int]:
    """A descriptor of the network namespace of process *pid*."""
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
