"""Networks: who is where, who finds whom by which name, what leads outside, and what is left afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from networking import Lan, accepts, elsewhere, get, ip, nft, outside
from worlds import PATIENCE

from minidock import leftovers
from minidock.containers import ipam, lifecycle, networks, subnets
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound


@pytest.fixture
def lan(box) -> Lan:
    # A new network begins as the host is set just now, where others may have been.
    with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("0")
    return Lan(box)


def lookup(lan: Lan, container, name: str) -> set[str]:
    """What the container's name server says."""
    ran = lan.box.exec(container, "nslookup", name, "127.0.0.11")
    return set(re.findall(r"^(?:Address(?: \d+)?:|.*name =) ?(\S+)$", ran.text.partition(":53\n")[2], re.M))


# ---- addresses ------------------------------------------------------------------------------------------


@pytest.mark.vm
def test_what_a_container_sees(lan):
    text = lan.sh("cat /proc/net/route; ip addr; ip route; cat /etc/hosts; hostname").text
    assert "inet 172.17.0.2/16" in text
    assert "02:42:ac:11:00:02" in text
    assert "default via 172.17.0.1 dev eth0" in text
    name = text.splitlines()[-1]
    assert f"172.17.0.2\t{name}" in text
    assert "127.0.0.1\tlocalhost" in text


def test_the_host_sees_a_cable_in_a_bridge(lan):
    IPRoute = pytest.importorskip("pyroute2").IPRoute  # noqa: N806 (the VM may lack it)

    container = lan.start("sleep", "1000")
    endpoint, network = lan.endpoint(container), networks.load(lan.root)["bridge"]
    with IPRoute() as oracle:
        (bridge,) = oracle.get_links(ifname=network.bridge)
        (cable,) = oracle.get_links(ifname=endpoint.cable)
        assert bridge.get("state") == cable.get("state") == "up"
        assert bridge.get(("linkinfo", "kind")) == "bridge"
        assert cable.get(("linkinfo", "kind")) == "veth"
        assert cable.get("master") == bridge["index"]
        (address,) = oracle.get_addr(index=bridge["index"], family=socket.AF_INET)
        assert (address.get("address"), address["prefixlen"]) == ("172.17.0.1", 16)
    lifecycle.remove(container, force=True)
    assert endpoint.cable not in ip("link") or not accepts(endpoint.ip, 80)


def test_addresses_are_given_again_but_never_twice(lan):
    first, second = lan.start("sleep", "1000"), lan.start("sleep", "1000")
    assert [lan.endpoint(each).ip for each in (first, second)] == ["172.17.0.2", "172.17.0.3"]
    lifecycle.remove(first, force=True)
    third, fourth = lan.start("sleep", "1000"), lan.start("sleep", "1000")
    assert [lan.endpoint(each).ip for each in (third, fourth)] == ["172.17.0.2", "172.17.0.4"]


def test_a_bridge_that_comes_back_finds_its_subnet_taken(lan):
    """As after a boot, when another engine was quicker."""
    lan.network_create("chosen", subnet=["10.9.0.0/24"])
    lan.start("true")
    for network in networks.load(lan.root).values():
        if network.bridge:
            ip("link", "del", network.bridge)
    ip("link", "add", "other", "type", "bridge")
    for address in ("172.17.0.1/16", "10.9.0.1/24"):
        ip("addr", "add", address, "dev", "other")
    ip("link", "set", "other", "up")
    container = lan.start("sleep", "1000")
    assert lan.endpoint(container).ip == "172.18.0.2"
    with pytest.raises(Conflict, match=r"network chosen: its subnet 10\.9\.0\.0/24 is in use elsewhere"):
        lan.start("sleep", "1000", network="chosen")


def test_networks_avoid_the_routes_of_the_host(lan):
    ip("link", "add", "other", "type", "bridge")
    ip("addr", "add", "172.17.5.1/24", "dev", "other")
    ip("link", "set", "other", "up")
    lan.network_create("one")
    assert [each["IPAM"]["Config"][0]["Subnet"] for each in lan.networks({"driver": ["bridge"]})] == [
        "172.18.0.0/16",
        "172.19.0.0/16",
    ]
    with pytest.raises(Conflict, match="Pool overlaps"):
        lan.network_create("two", subnet=["172.17.5.128/25"])
    with pytest.raises(Conflict, match="Pool overlaps"):
        lan.network_create("two", subnet=["172.18.9.0/24"])


def test_subnet_gateway_range_and_address_as_asked(lan):
    lan.network_create("app", subnet=["10.9.0.0/24"], gateway=["10.9.0.254"], ip_range=["10.9.0.64/30"])
    found = [lan.start("sleep", "1000", network="app") for _ in range(4)]
    assert [lan.endpoint(each, "app").ip for each in found] == [f"10.9.0.{last}" for last in (64, 65, 66, 67)]
    text = lan.network_create("far", subnet=["10.8.0.0/24"], aux_address=["router=10.8.0.2"])
    assert lan.network_inspect(text)["IPAM"]["Config"][0]["AuxiliaryAddresses"] == {"router": "10.8.0.2"}
    assert lan.endpoint(lan.start("sleep", "1000", network="far"), "far").ip == "10.8.0.3"
    full = lan.box.create("true", **lan.wishes("app"))
    with pytest.raises(Conflict, match=r"no available IPv4 addresses in 10\.9\.0\.64/30"):
        lifecycle.start(full)
    chosen = lan.start("sleep", "1000", network="app", ip="10.9.0.200", mac_address="02:00:00:00:00:77")
    text = lan.box.exec(chosen, "sh", "-c", "ip addr show eth0; ip route").text
    assert "10.9.0.200/24" in text
    assert "02:00:00:00:00:77" in text
    assert "default via 10.9.0.254" in text
    taken = lan.box.create("true", **lan.wishes("app", ip="10.9.0.200"))
    with pytest.raises(Conflict, match="Address already in use"):
        lifecycle.start(taken)
    outside_of_it = lan.box.create("true", **lan.wishes("app", ip="10.8.0.2"))
    with pytest.raises(InvalidInput, match=r"no configured subnet contains IP address 10\.8\.0\.2"):
        lifecycle.start(outside_of_it)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"subnet": ["10.9.0.0"]}, "invalid CIDR"),
        ({"subnet": ["10.9.0.0/33"]}, "invalid CIDR"),
        ({"subnet": ["10.9.0.0/32"]}, None),
        ({"subnet": ["10.9.0.0/24"], "gateway": ["10.8.0.1"]}, "no matching subnet for gateway"),
        ({"subnet": ["10.9.0.0/24"], "ip_range": ["10.8.0.0/25"]}, "no matching subnet for range"),
        ({"subnet": ["10.9.0.0/24"], "aux_address": ["a=10.8.0.1"]}, "no matching subnet for aux-address"),
        ({"gateway": ["10.8.0.1"]}, "must have a corresponding subnet"),
        ({"driver": "overlay"}, "plugin not found"),
        ({"subnet": ["fd00:9::/64"]}, "--ipv6|IPv6"),
        ({"options": {"com.docker.network.driver.mtu": "lots"}}, "invalid value"),
    ],
)
def test_networks_that_cannot_be(lan, wanted, message):
    if message is None:
        lan.network_create("odd", **wanted)
        return
    with pytest.raises(MinidockError, match=message):
        lan.network_create("odd", **wanted)
    assert [each["Name"] for each in lan.networks()] == ["bridge", "host", "none"] or not (
        lan.root / "networks/odd.json"
    ).exists()


def test_subnets_are_arithmetic():
    block = subnets.subnet("10.9.0.7/30")
    assert str(block) == "10.9.0.4/30"
    assert [subnets.address(each, 32) for each in subnets.usable(block)] == ["10.9.0.5", "10.9.0.6"]
    assert block.overlaps(subnets.subnet("10.0.0.0/8"))
    assert not block.overlaps(subnets.subnet("10.9.0.8/30"))
    assert not block.overlaps(subnets.subnet("::/0"))
    assert str(subnets.choose([subnets.subnet("172.16.0.0/12")])) == "192.168.0.0/20"
    assert str(subnets.choose_ipv6(b"\1\2\3\4\5")) == "fd01:203:405::/64"
    with pytest.raises(MinidockError, match="fully subnetted"):
        subnets.choose([subnets.subnet("0.0.0.0/0")])


# ---- names ----------------------------------------------------------------------------------------------


@pytest.mark.vm
def test_names_aliases_and_those_who_come_later(lan):
    lan.network_create("app")
    first = lan.start("sleep", "1000", name="first", network="app")
    assert lookup(lan, first, "second") == set()
    second = lan.start("sleep", "1000", name="second", network="app", network_alias=["db", "cache"])
    third = lan.start("sleep", "1000", name="third", network="app", network_alias=["db"])
    where = {each: lan.endpoint(each, "app").ip for each in (first, second, third)}
    for name in ("second", "SECOND", "cache", "second.app", second.id[:12]):
        assert lookup(lan, first, name) == {where[second]}, name
    assert lookup(lan, first, "db") == {where[second], where[third]}
    assert lookup(lan, second, "first") == {where[first]}
    assert lan.box.exec(first, "ping", "-c", "1", "-W", "5", "third").code == 0
    assert lookup(lan, first, where[third]) == {"third.app"}
    lifecycle.rename(third, "renamed")
    assert lookup(lan, first, "renamed") == {where[third]}
    lifecycle.stop(second, timeout=0)
    assert lookup(lan, first, "db") == {where[third]}


def test_the_default_network_has_no_names_but_links(lan):
    wanted = {"exposed_ports": ["5432/tcp", "53/udp"], "environment": ["PW=x", "HOME=/"]}
    db = lan.box.start("sleep", "1000", name="database", **wanted, **lan.wishes())
    linked = lan.start("sleep", "1000", name="web", link=["database:my-db", "database:db"])
    script = "cat /etc/hosts /etc/resolv.conf; ping -c 1 -W 5 db"
    ran = lan.box.exec(linked, "sh", "-c", script)
    assert ran.code == 0
    assert f"{lan.endpoint(db).ip}\tdb {db.id[:12]} database" in ran.text
    assert "127.0.0.11" not in ran.text
    told = lan.box.exec(linked, "env").lines
    address = lan.endpoint(db).ip
    assert sorted(line for line in told if line.startswith("MY_DB_")) == sorted(
        [
            "MY_DB_ENV_PW=x",
            "MY_DB_NAME=/web/my-db",
            f"MY_DB_PORT=udp://{address}:53",
            f"MY_DB_PORT_5432_TCP=tcp://{address}:5432",
            f"MY_DB_PORT_5432_TCP_ADDR={address}",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            f"MY_DB_PORT_53_UDP=udp://{address}:53",
            f"MY_DB_PORT_53_UDP_ADDR={address}",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
        ]
    )
    lan.unlink("web/my-db")
    lifecycle.stop(linked, timeout=0)
    lifecycle.start(linked)
    told = lan.box.exec(linked, "env").text
    assert "DB_NAME=/web/db" in told
    assert "MY_DB" not in told
    with pytest.raises(NotFound, match="No such link: web/my-db"):
        lan.unlink("web/my-db")
    lifecycle.stop(db, timeout=0)
    assert lan.box.exec(linked, "true").code == 0
    lan.start("sleep", "1000")  # takes the address
    lifecycle.start(db)
    assert lan.endpoint(db).ip != address
    assert (
        f"{lan.endpoint(db).ip}\tdb {db.id[:12]} database" in lan.box.exec(linked, "cat", "/etc/hosts").text
    )
    assert lan.box.exec(linked, "ping", "-c", "1", "-W", "5", "db").code == 0
    lifecycle.stop(db, timeout=0)
    alone = lan.box.create("true", **lan.wishes(link=["database:db"]))
    with pytest.raises(Conflict, match="Cannot link to a non running container"):
        lifecycle.start(alone)


def test_links_in_a_network_of_ones_own(lan):
    lan.network_create("app")
    db = lan.start("sleep", "1000", name="database", network="app")
    linked = lan.start("sleep", "1000", network="app", link=["database:db"])
    other = lan.start("sleep", "1000", network="app")
    assert lookup(lan, linked, "db") == {lan.endpoint(db, "app").ip}
    assert lookup(lan, other, "db") == set()
    early = lan.start("sleep", "1000", network="app", link=["later:db"])
    assert lookup(lan, early, "db") == set()
    later = lan.start("sleep", "1000", name="later", network="app")
    assert lookup(lan, early, "db") == {lan.endpoint(later, "app").ip}


@pytest.mark.vm
def test_link_local_addresses(lan):
    lan.network_create("app")
    wanted = ["169.254.7.7", "fe80::7"]
    container = lan.start("sleep", "1000", network=[f"name=app,link-local-ip={wanted[0]}"])
    lan.network_create("more")
    lan.network_connect("more", container.id, link_local=wanted[1:])
    shown = lan.box.exec(container, "ip", "addr").text
    assert "inet 169.254.7.7/16 " in shown
    assert "inet6 fe80::7/64 " in shown
    with pytest.raises(InvalidInput, match="x is not an ip address"):
        lan.network_connect("app", container.id, link_local=["x"])


NAMES_SERVED = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("0.0.0.0", 53))
tcp = socket.socket(); tcp.bind(("0.0.0.0", 53)); tcp.listen()
print("ready", flush=True)
while True:
    m, a = udp.recvfrom(4096)
    udp.sendto(m[::-1], a)
"""


@pytest.mark.vm
def test_a_container_may_serve_names_itself(lan):
    """Docker's server at 127.0.0.11 leaves port 53 free, for UDP and for TCP."""
    lan.network_create("app")
    first = lan.start("sleep", "1000", name="first", network="app")
    lan.start("sleep", "1000", name="second", network="app")
    inside = ["nsenter", "-t", str(first.state().pid), "-n", sys.executable, "-c"]
    server = subprocess.Popen([*inside, NAMES_SERVED], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        assert lookup(lan, first, "second") == {"172.18.0.3"}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5 * PATIENCE)
            client.sendto(b"abc", (lan.endpoint(first, "app").ip, 53))
            assert client.recv(100) == b"cba"
        # The answer over TCP, for what is too long for a datagram.
        query = b"\0\7\1\0\0\1\0\0\0\0\0\0\6second\0\0\1\0\1"
        ask = f"""
import socket
c = socket.create_connection(("127.0.0.11", 53)); q = {query!r}
c.sendall(len(q).to_bytes(2, "big") + q)
print(socket.inet_ntoa(c.recv(4096)[-4:]))"""
        assert subprocess.check_output([*inside, ask], text=True).strip() == "172.18.0.3"
    finally:
        server.kill()
        server.wait()


FAKE_RESOLVER = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    m, a = s.recvfrom(4096)
    end = m.index(b"\\0", 12) + 5
    kind = m[end - 3]
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + bytes([203, 0, 113, 80])
    known = kind == 1 and b"example" in m
    flags = b"\\x81\\x80" if b"example" in m else b"\\x81\\x83"
    head = m[:2] + flags + b"\\0\\1" + (b"\\0\\1" if known else b"\\0\\0")
    s.sendto(head + b"\\0\\0\\0\\0" + m[12:end] + (record if known else b""), a)
"""


def test_other_names_are_asked_of_the_hosts_resolver(lan):
    resolver = subprocess.Popen([sys.executable, "-c", FAKE_RESOLVER], stdout=subprocess.PIPE)
    try:
        assert resolver.stdout is not None
        resolver.stdout.readline()
        lan.network_create("app")
        lan.network_create("inner", internal=True)
        container = lan.start("sleep", "1000", network="app", dns=["127.0.0.1"])
        assert lookup(lan, container, "www.example.com") == {"203.0.113.80"}
        assert "NXDOMAIN" in lan.box.exec(container, "nslookup", "no.such.name", "127.0.0.11").text
        inside = lan.start("sleep", "1000", network="inner", dns=["127.0.0.1"])
        assert lookup(lan, inside, "www.example.com") == set()
    finally:
        resolver.kill()
        resolver.wait()


def test_files_of_etc_as_asked(lan):
    script = "cat /etc/resolv.conf /etc/hosts; hostname; cat /etc/hostname"
    wanted = {"dns": ["192.0.2.53"], "dns_search": ["example.org"], "dns_option": ["timeout:1"]}
    lan.network_create("app")
    text = lan.sh(script, add_host=["db:10.0.0.5", "gate:host-gateway"], **wanted).text
    assert text.startswith("nameserver 192.0.2.53\nsearch example.org\noptions timeout:1\n")
    assert "10.0.0.5\tdb\n172.17.0.1\tgate\n" in text
    text = lan.sh(script, network="app", **wanted).text
    assert text.startswith("nameserver 127.0.0.11\nsearch example.org\noptions timeout:1 ndots:0\n")


# ---- several networks -----------------------------------------------------------------------------------


def test_connect_and_disconnect_while_it_runs(lan):
    lan.network_create("front")
    lan.network_create("back", subnet=["10.9.0.0/24"])
    web = lan.web(name="web", network="front", publish=["8080:80"])
    db = lan.web(name="database", network="back")
    assert lookup(lan, web, "database") == set()
    lan.network_connect("back", "web", ip="10.9.0.77", aliases=["www"])
    assert lookup(lan, web, "database") == {lan.endpoint(db, "back").ip}
    assert lookup(lan, db, "www") == {"10.9.0.77"}
    assert lan.box.exec(db, "sh", "-c", "wget -qO- http://www/name").text.strip() == web.id[:12]
    with pytest.raises(Conflict, match="already exists in network back"):
        lan.network_connect("back", "web")
    lan.network_disconnect("front", "web")
    assert "eth0" not in lan.box.exec(web, "ip", "link").text
    assert "default via 10.9.0.1" in lan.box.exec(web, "ip", "route").text
    assert lan.port(web) == 8080
    assert accepts("127.0.0.1", 8080)
    with pytest.raises(Conflict, match="is not connected to network front"):
        lan.network_disconnect("front", "web")
    lifecycle.stop(web, timeout=0)
    lifecycle.start(web)  # what was connected is written down
    assert lan.endpoint(web, "back").ip == "10.9.0.77"
    assert web.id not in networks.load(lan.root)["front"].endpoints


def test_several_networks_from_the_start_and_walls_between_them(lan):
    lan.network_create("front")
    lan.network_create("back", internal=True)
    both = lan.web(name="both", network=["front", "back"])
    front, back = lan.start("sleep", "9", network="front"), lan.start("sleep", "9", network="back")
    assert lookup(lan, front, "both") == {lan.endpoint(both, "front").ip}
    assert lookup(lan, back, "both") == {lan.endpoint(both, "back").ip}
    reach = "timeout 2 wget -qO- http://%s/name"
    for source, network in ((front, "front"), (back, "back")):
        target = lan.endpoint(both, network).ip
        assert lan.box.exec(source, "sh", "-c", reach % target).text.strip() == both.id[:12]
    assert lan.box.exec(front, "sh", "-c", reach % lan.endpoint(both, "back").ip).code
    assert "default" not in lan.box.exec(back, "ip", "route").text


def test_another_containers_network(lan):
    web = lan.web(name="web")
    script = "wget -qO- http://127.0.0.1/name; cat /etc/hosts"
    text = lan.sh(script, network=f"container:{web.id}").text
    assert text.startswith(f"{web.id[:12]}\n")
    assert lan.endpoint(web).ip in text
    with pytest.raises(InvalidInput, match="port publishing and the container type network mode"):
        lan.wishes(f"container:{web.id}", publish=["80"])


def test_who_shares_the_network_of_one_that_ended_loses_the_cable(lan, until):
    """Else its address, given to the next, would be there twice."""
    web = lan.web(name="web")
    address = lan.endpoint(web).ip
    sharing = lan.start("sleep", "1000", network=f"container:{web.id}")
    lifecycle.kill(web)
    until(lambda: "eth0" not in lan.box.exec(sharing, "ip", "link").text, "the cable to go")
    assert lan.endpoint(lan.start("sleep", "1000")).ip == address


def test_a_network_in_use_stays_and_an_unused_one_goes(lan):
    lan.network_create("app")
    bridge = networks.load(lan.root)["app"].bridge
    container = lan.start("sleep", "1000", name="user", network="app")
    with pytest.raises(Conflict, match="network app has active endpoints"):
        lan.network_rm("app")
    lifecycle.stop(container, timeout=0)
    assert lan.network_prune() == []
    lifecycle.remove(container)
    assert lan.network_prune() == ["app"]
    assert bridge not in ip("link")
    with pytest.raises(NotFound, match="network app not found"):
        lan.wishes("app")


# ---- the world outside ----------------------------------------------------------------------------------


@pytest.mark.parametrize("userns", [pytest.param("host", marks=pytest.mark.vm), "private"])
def test_nat_to_the_world(lan, userns):
    with outside() as internet:
        server = subprocess.Popen(
            [
                "nsenter",
                "-t",
                str(internet),
                "-n",
                "busybox",
                "nc",
                "-l",
                "-p",
                "99",
                "-e",
                "/bin/echo",
                "hi",
            ],
            stdin=subprocess.DEVNULL,
        )
        try:
            script = "until nc -w 2 198.51.100.2 99; do sleep 0.1; done"
            assert lan.sh(f"timeout 10 sh -c '{script}'", userns=userns).text == "hi\n"
        finally:
            server.kill()
            server.wait()
        assert "172.17" not in elsewhere(internet, "ip neigh; ip route get 172.17.0.2").stdout


@contextlib.contextmanager
def routed(*worlds: tuple[str, str]):
    """Networks that this host is in, and in each a machine whose way out leads through it: their pids."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(outside(link, net)) for link, net in worlds]
        for pid, (link, net) in zip(found, worlds, strict=True):
            ip("route", "add", "default", "via", f"{net}.1", "dev", link, pid=pid)
        yield found


def reached(pid: int, address: str) -> bool:
    """Whether a machine elsewhere reaches *address*."""
    ran = elsewhere(pid, f"busybox ping -c 1 -W 1 {address}")
    assert ran.returncode in (0, 1), ran.stderr
    return ran.returncode == 0


@pytest.mark.vm
def test_the_host_does_not_become_a_router_between_its_other_networks(lan, until):
    """Containers need ip_forward, which is for the whole machine: so what it would open stays shut."""
    with routed(("wan", "198.51.100"), ("office", "203.0.113")) as (wan, office):
        assert not reached(wan, "203.0.113.2")
        web = lan.web(publish=["8080:80"])
        assert not reached(wan, "203.0.113.2")
        for pid, net in ((wan, "198.51.100"), (office, "203.0.113")):
            got = elsewhere(pid, f"busybox wget -qO- http://{net}.1:8080/name").stdout
            assert got.strip() == web.id[:12]
            assert lan.box.exec(web, "ping", "-c", "1", "-W", "5", f"{net}.2").code == 0
        # What is made afterwards (another engine's bridge, say) is for who made it to keep shut.
        with routed(("late", "192.0.2")):
            until(lambda: reached(wan, "192.0.2.2"), "the way to the late network is open")
        leftovers.reset(lan.root)
        assert not reached(wan, "203.0.113.2")


def test_a_host_that_was_a_router_stays_one(lan, until):
    with routed(("wan", "198.51.100"), ("office", "203.0.113")) as (wan, _):
        with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
            file.write("1")
        lan.web()
        until(lambda: reached(wan, "203.0.113.2"), "the way is open")


def test_an_internal_network_has_no_way_out(lan):
    lan.network_create("inner", internal=True)
    with outside():
        ran = lan.sh("ip route add default via 172.18.0.1; ping -c 1 -W 1 198.51.100.2", network="inner")
        assert ran.code


def test_containers_that_must_not_talk_to_each_other(lan):
    lan.network_create("app", options={networks.TALK: "false"})
    web = lan.web(name="web", network="app", publish=["8080:80"])
    reach = "timeout 2 wget -qO- http://%s/name"
    here = lan.endpoint(web, "app").ip
    other = lan.start("sleep", "1000", network="app")
    assert lan.box.exec(other, "sh", "-c", reach % here).code
    assert lan.box.exec(other, "sh", "-c", reach % "172.18.0.1:8080").code
    assert lan.box.exec(other, "ping", "-c", "1", "-W", "5", "172.18.0.1").code == 0
    assert get("127.0.0.1", 8080) == web.id[:12]
    with pytest.raises(InvalidInput, match="invalid value 'maybe'"):
        lan.network_create("odd", options={networks.TALK: "maybe"})


@pytest.mark.vm
def test_ipv6(lan):
    lan.network_create("six", ipv6=True)
    web = lan.start("sleep", "1000", name="web", network="six", publish=["8080:80"])
    other = lan.start("sleep", "1000", network="six")
    address = lan.endpoint(web, "six").ip6
    assert re.fullmatch(r"fd[0-9a-f:]+::2", address)
    assert lan.box.exec(other, "ping", "-6", "-c", "1", "-W", "5", address).code == 0
    assert lookup(lan, other, "web") == {lan.endpoint(web, "six").ip, address}
    assert f"tcp . 8080 : {address} . 80" in nft("list", "ruleset")


@pytest.mark.skipif(not os.path.exists("/usr/sbin/iptables"), reason="iptables is not installed")
def test_beside_a_firewall_that_drops_what_is_forwarded(lan):
    """As Docker sets it up: policy drop, and a chain for the machine's owner."""
    for words in ("-P FORWARD DROP", "-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"):
        subprocess.run(["iptables", *words.split()], check=True)
    with outside() as internet:
        web = lan.web(publish=["8080:80"])
        assert (
            elsewhere(internet, "timeout 5 busybox wget -qO- http://198.51.100.1:8080/name").stdout.strip()
            == web.id[:12]
        )
        assert lan.box.exec(web, "ping", "-c", "1", "-W", "5", "198.51.100.2").code == 0
        bridge = networks.load(lan.root)["bridge"].bridge
        lifecycle.remove(web, force=True)
        leftovers.reset(lan.root)
        rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
        assert bridge not in rules
        assert "-P FORWARD DROP" in rules


BUS = """
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <policy context="default">
    <allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""


@pytest.fixture
def firewalld(tmp_path, monkeypatch, until):
    """A firewalld of this test's own, with a bus of its own: all that it changes is in this network."""
    path, configuration = tmp_path / "bus", tmp_path / "bus.conf"
    configuration.write_text(BUS.format(path=path))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    (tmp_path / "etc").mkdir()
    commands = (
        (["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"], path.exists),
        (
            ["firewalld", "--nofork", "--nopid", f"--system-config={tmp_path}/etc"],
            lambda: subprocess.run(["firewall-cmd", "--state"], capture_output=True).returncode == 0,
        ),
    )
    with contextlib.ExitStack() as running:
        for command, ready in commands:
            process = running.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            running.callback(process.terminate)
            until(ready, f"{command[0]} is ready")
        yield lambda *words: subprocess.check_output(["firewall-cmd", *words], text=True)


@pytest.mark.skipif(not os.path.exists("/usr/sbin/firewalld"), reason="firewalld is not installed")
def test_beside_firewalld(lan, firewalld):
    """It rejects what it does not know, and forgets at a reload what was not made permanent."""
    with outside() as internet:
        web = lan.web(publish=["8080:80"])
        bridge = networks.load(lan.root)["bridge"].bridge
        for _ in range(2):
            asked = elsewhere(internet, "timeout 5 busybox wget -qO- http://198.51.100.1:8080/name")
            assert asked.stdout.strip() == web.id[:12]
            assert lan.box.exec(web, "ping", "-c", "1", "-W", "5", "198.51.100.2").code == 0
            firewalld("--reload")
            assert bridge in firewalld("--zone=trusted", "--list-interfaces")
        lifecycle.remove(web, force=True)
        leftovers.reset(lan.root)
        for when in ([], ["--permanent"]):
            assert bridge not in firewalld(*when, "--zone=trusted", "--list-interfaces")


# ---- many at once, and the end --------------------------------------------------------------------------


def test_many_at_once_share_nothing_but_the_network(lan, until):
    """50 containers start together: no address twice, no rule lost, all names known, all gone afterwards."""
    count = 50
    lan.network_create("app")
    made = [
        lan.box.create("sleep", "1000", name=f"web{number}", **lan.wishes("app", publish=["80"]))
        for number in range(count)
    ]
    failures = []

    def start(container):
        try:
            lifecycle.start(container)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(container,)) for container in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    places = [lan.endpoint(container, "app") for container in made]
    assert len({place.ip for place in places}) == count
    assert len({place.cable for place in places} & set(re.findall(r"veth\w+", ip("link")))) == count
    rules = nft("list", "ruleset")
    for container, place in zip(made, places, strict=True):
        assert f"tcp . {lan.port(container)} : {place.ip} . 80" in rules
    script = f"for n in $(seq 0 {count - 1}); do nslookup web$n 127.0.0.11 | grep -A1 Name: | grep Addr; done"
    ran = lan.box.exec(made[0], "sh", "-c", script)
    assert [line.split()[-1] for line in ran.lines] == [place.ip for place in places]
    for container in made:
        lifecycle.kill(container)
    until(lambda: not networks.load(lan.root)["app"].endpoints, "all endpoints to go", seconds=60)
    until(lambda: "tcp . 3" not in nft("list", "ruleset"), "all rules to go", seconds=60)
    until(lambda: "veth" not in ip("link"), "the cables to go")


@pytest.mark.vm
def test_doctor_names_what_was_left_and_reset_removes_it(lan, until):
    container = lan.start("sleep", "1000", name="web", publish=["8080:80"])
    assert list(leftovers.find(lan.root)) == []
    shim = int(open(f"/proc/{container.state().pid}/status").read().split("PPid:")[1].split()[0])
    os.kill(shim, signal.SIGKILL)
    until(lambda: not container.alive(), "the shim to die")
    assert "172.17.0.2 of web, whose shim was killed" in [each.what for each in leftovers.find(lan.root)]
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        assert file.read() == "1\n"
    done = leftovers.reset(lan.root)
    assert "setting net.ipv4.ip_forward = 0" in done
    assert f"nft table inet {networks.table(lan.root)}" in done
    assert "bridge" not in ip("-d", "link")
    assert nft("list", "tables") == ""
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        assert file.read() == "0\n"


def test_two_roots_do_not_meet(lan, make_root):
    other = make_root()
    (other / "networks").mkdir()
    lan.start("sleep", "1000")
    with networks.locked(other) as known:
        ipam.predefine(other, known)
    mine, theirs = networks.load(lan.root)["bridge"], networks.load(other)["bridge"]
    assert mine.blocks[0].subnet != theirs.blocks[0].subnet
    assert mine.bridge != theirs.bridge
    assert networks.table(lan.root) != networks.table(other)


def test_a_container_that_starts_again_has_its_place_again(lan, until):
    """A restart policy: between two lives nothing is held, and the next has name server, cable and port."""
    lan.network_create("app")
    script = "trap 'exit 1' TERM; while :; do sleep 1 & wait $!; done"
    wishes = lan.wishes("app", publish=["8080:80"])
    service = lan.box.start("sh", "-c", script, name="service", restart_policy="always", **wishes)
    first = lan.endpoint(service, "app")
    os.kill(service.state().pid, signal.SIGKILL)
    until(lambda: service.state().restart_count == 1 and service.status() == "running", "the restart")
    assert lan.endpoint(service, "app").ip == first.ip
    assert lan.endpoint(service, "app").cable != first.cable
    assert lookup(lan, service, "service") == {first.ip}
    assert lan.port(service) == 8080


def test_the_end_of_one_life_takes_nothing_from_the_next(lan):
    container = lan.start("sleep", "1000", publish=["127.0.0.1:8080:80"])
    for _ in range(20):  # the shim of the last life still clears away when the next one begins
        lifecycle.stop(container, timeout=0)
        lifecycle.start(container)
        lan.box.exec(container, "true")
        assert lan.endpoint(container).ports
