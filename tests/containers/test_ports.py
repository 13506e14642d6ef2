"""Published ports: from wherever one can ask, in every form in which one can publish."""

from __future__ import annotations

import socket

import pytest
from networking import Lan, echo, elsewhere, get, nft, outside, udp_server

from minidock.containers import lifecycle
from minidock.errors import Conflict, MinidockError


@pytest.fixture
def lan(box) -> Lan:
    return Lan(box)


TAKEN = r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated"
FORMS = ["8080:80", "80", "0.0.0.0:8081:80", "8090-8092:80", "8000-8001:80-81"]


@pytest.mark.parametrize("userns", [pytest.param("host", marks=pytest.mark.vm), "private"])
def test_every_source_reaches_every_form(lan, userns):
    """{host address, 127.0.0.1, ::1, outside, another container, the container itself} × forms of -p."""
    with outside() as internet:
        web = lan.web(publish=FORMS, userns=userns)
        other = lan.start("sleep", "1000")
        name, address = web.id[:12], lan.endpoint(web).ip
        ports = {row["PublicPort"] for row in lan.ports(web.id) if row["PrivatePort"] == 80}
        assert {8080, 8081, 8090, 8000} <= ports
        assert len(ports) == 5
        gateway = "172.17.0.1"
        assert get(address, 80) == name
        for port in sorted(ports):
            for host in ("127.0.0.1", "198.51.100.1", gateway):
                assert get(host, port) == name, (host, port)
            if port != 8081:
                assert get("::1", port) == name, port
            for container in (other, web):
                for host in (gateway, "198.51.100.1"):
                    script = f"timeout 10 wget -qO- http://{host}:{port}/name"
                    assert lan.box.exec(container, "sh", "-c", script).text.strip() == name, (host, port)
            script = f"timeout 10 busybox wget -qO- http://198.51.100.1:{port}/name"
            assert elsewhere(internet, script).stdout.strip() == name, port
        with pytest.raises(OSError):
            get("::1", 8081)


def test_one_address_of_the_host_only(lan):
    with outside() as internet:
        web = lan.web(publish=["127.0.0.1:8080:80", "198.51.100.1:8081:80", "[::1]:8082:80"])
        name = web.id[:12]
        assert get("127.0.0.1", 8080) == name
        assert get("198.51.100.1", 8081) == name
        assert get("::1", 8082) == name
        for host, port in (("198.51.100.1", 8080), ("127.0.0.1", 8081), ("127.0.0.1", 8082), ("::1", 8080)):
            with pytest.raises(OSError):
                get(host, port, timeout=1)
        assert (
            elsewhere(internet, "timeout 10 busybox wget -qO- http://198.51.100.1:8081/name").stdout.strip()
            == name
        )
        assert (
            elsewhere(internet, "timeout 2 busybox wget -qO- http://198.51.100.1:8080/name").returncode == 1
        )  # refused


@pytest.mark.vm
def test_udp(lan):
    server = lan.start("sleep", "1000", publish=["5353:53/udp", "127.0.0.1:5354:53/udp"])
    with udp_server(server.state().pid, 53):
        assert echo(lan.endpoint(server).ip, 53) == b"HELLO"
        for host in ("127.0.0.1", "172.17.0.1", "::1"):
            assert echo(host, 5353) == b"HELLO", host
        assert echo("127.0.0.1", 5354) == b"HELLO"


def test_publish_all_takes_what_is_exposed(lan):
    web = lan.web(publish_all=True, exposed=("80/tcp", "81/udp"), publish=["8080:82"])
    rows = {(row["PrivatePort"], row["Type"]): row["PublicPort"] for row in lan.ports(web.id)}
    assert rows.keys() == {(80, "tcp"), (81, "udp"), (82, "tcp")}
    assert rows[82, "tcp"] == 8080
    assert rows[80, "tcp"] >= 32768
    assert get("127.0.0.1", rows[80, "tcp"]) == web.id[:12]


def test_large_answers_through_the_loopback_of_ipv6(lan):
    script = "mkdir /www; dd if=/dev/zero of=/www/big bs=1M count=8 2>/dev/null; exec httpd -f -h /www"
    web = lan.start("sh", "-c", script, publish=["8080:80"])
    lan.until_served(web)
    with socket.create_connection(("::1", 8080), 20) as client:
        client.sendall(b"GET /big HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        received = 0
        while data := client.recv(65536):
            received += len(data)
    assert received > 8 << 20


def test_what_is_not_published_cannot_be_reached_from_outside(lan):
    with outside() as internet:
        web = lan.web(publish=["8080:80"])
        address = lan.endpoint(web).ip
        routed = (
            f"ip route add 172.17.0.0/16 via 198.51.100.1; timeout 2 busybox wget -qO- http://{address}/name"
        )
        assert elsewhere(internet, routed).returncode == 124  # no answer at all


# ---- a port that is taken -------------------------------------------------------------------------------


def test_taken_by_another_container(lan):
    web = lan.web(name="web", publish=["8080:80"])
    second = lan.box.create("true", **lan.wishes(publish=["8079:79", "8080:80"]))
    with pytest.raises(Conflict, match=TAKEN) as caught:
        lifecycle.start(second)
    assert "web" in caught.value.hint
    assert lan.ports(second.id) == []
    assert "8079" not in nft("list", "ruleset")
    assert get("127.0.0.1", 8080) == web.id[:12]
    lifecycle.remove(web, force=True)
    lifecycle.start(second)  # free at once


def test_taken_by_a_program_of_the_host(lan):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 8080))
        holder.listen()
        container = lan.box.create("true", **lan.wishes(publish=["8080:80"]))
        words = r"failed to bind port 0\.0\.0\.0:8080/tcp: listen tcp4 0\.0\.0\.0:8080: bind: address already"
        with pytest.raises(Conflict, match=words):
            lifecycle.start(container)
    lifecycle.start(container)


def test_a_held_port_is_not_for_programs_of_the_host(lan):
    lan.web(publish=["8080:80"])
    with socket.socket() as other, pytest.raises(OSError, match="already in use"):
        other.bind(("127.0.0.1", 8080))


def test_a_range_gives_the_first_that_is_free(lan):
    web = lan.web(publish=["8080-8081:80"])
    second = lan.web(publish=["8080-8081:80"])
    assert (lan.port(web), lan.port(second)) == (8080, 8081)
    third = lan.box.create("true", **lan.wishes(publish=["8080-8081:80"]))
    with pytest.raises(Conflict, match="port is already allocated"):
        lifecycle.start(third)


def test_an_address_that_the_host_has_not(lan):
    container = lan.box.create("true", **lan.wishes(publish=["203.0.113.9:8080:80"]))
    with pytest.raises(MinidockError, match="cannot assign requested address"):
        lifecycle.start(container)


# ---- afterwards -----------------------------------------------------------------------------------------


@pytest.mark.vm
def test_a_stopped_container_leaves_no_rule_and_its_port_works_again(lan, until):
    web = lan.web(publish=["8080:80"])
    lifecycle.stop(web, timeout=0)
    until(lambda: "8080" not in nft("list", "ruleset"), "the rule to go")
    assert lan.ports(web.id) == []
    with pytest.raises(OSError):
        get("127.0.0.1", 8080)
    lifecycle.start(web)
    lan.until_served(web)
    assert get("127.0.0.1", 8080) == web.id[:12]


def test_a_killed_shim_is_cleaned_up_after(lan, until):
    import os
    import signal

    web = lan.web(publish=["8080:80", "[::1]:8081:80"])
    old = lan.endpoint(web).ip
    shim = int(open(f"/proc/{web.state().pid}/status").read().split("PPid:")[1].split()[0])
    os.kill(shim, signal.SIGKILL)
    until(lambda: not web.alive(), "the shim to die")
    second = lan.web(publish=["8080:80", "[::1]:8081:80"])  # the next command puts it right
    assert lan.endpoint(second).ip == old
    assert get("127.0.0.1", 8080) == second.id[:12]
    assert get("::1", 8081) == second.id[:12]
    assert web.id not in str(lan.network_inspect("bridge")["Containers"])


def test_an_emptied_packet_filter_is_written_again(lan):
    lan.web(publish=["8080:80"])
    nft("flush", "ruleset")
    second = lan.web(publish=["8081:80"])
    assert get("127.0.0.1", 8081) == second.id[:12]
    get("127.0.0.1", 8080)


def test_removing_the_table_is_one_command(lan):
    from minidock.containers.networks import table

    lan.web(publish=["8080:80"])
    nft("delete", "table", "inet", table(lan.root))
    assert "minidock" not in nft("list", "ruleset")
