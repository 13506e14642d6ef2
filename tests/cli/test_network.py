"""``minidock network``, ``port`` and the flags of ``run`` for networks, as people type them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from worlds import Cli

pytestmark = pytest.mark.usefixtures("busybox")


def test_a_networks_life(minidock: Cli) -> None:
    identifier = minidock(
        "network", "create", "--subnet", "10.9.0.0/24", "--label", "a=b", "app"
    ).stdout.strip()
    head, *rows = minidock("network", "ls").stdout.splitlines()
    assert re.split(r"\s{2,}", head) == ["NETWORK ID", "NAME", "DRIVER", "SCOPE"]
    assert [row.split()[1:] for row in rows] == [
        ["app", "bridge", "local"],
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]
    assert minidock("network", "ls", "-q", "-f", "label=a=b", "--no-trunc").stdout.strip() == identifier
    assert (
        minidock("network", "inspect", "app", "-f", "{{(index .IPAM.Config 0).Subnet}}").stdout
        == ("10.9.0.0/24\n")
        or json.loads(minidock("network", "inspect", "app").stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    )
    container = minidock("run", "-d", "--name", "web", "--network", "app", "busybox", "sleep", "1000").stdout
    found = json.loads(minidock("network", "inspect", identifier[:6]).stdout)[0]
    assert found["Containers"][container.strip()]["IPv4Address"] == "10.9.0.2/24"
    refused = minidock("network", "rm", "app", check=False)
    assert refused.returncode == 1
    assert 'network app has active endpoints (name:"web")' in refused.stderr
    minidock("network", "disconnect", "app", "web")
    minidock("network", "connect", "--ip", "10.9.0.9", "app", "web")
    shown = minidock("inspect", "-f", "{{.NetworkSettings.Networks.app.IPAddress}}", "web").stdout
    assert shown == "10.9.0.9\n"
    minidock("rm", "-f", "web")
    assert minidock("network", "rm", "app").stdout == "app\n"
    assert minidock("network", "prune", "-f").stdout == ""


def test_ports_in_ps_port_and_inspect(minidock: Cli) -> None:
    publish = ["-p", "8080:80", "-p", "127.0.0.1:8000-8001:90-91/udp", "--expose", "443"]
    minidock("run", "-d", "--name", "web", *publish, "busybox", "sleep", "1000")
    assert minidock("ps", "--format", "{{.Ports}}").stdout == (
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:8000-8001->90-91/udp, 443/tcp\n"
    )
    for ports in ("publish=80", "publish=70-90", "expose=443", "publish=90/udp"):
        assert minidock("ps", "--filter", ports, "--format", "{{.Names}}").stdout == "web\n"
    for ports in ("publish=8080", "publish=443", "expose=91/tcp", "is-task=true"):
        assert minidock("ps", "-q", "--filter", ports).stdout == ""
    assert minidock("port", "web").stdout.splitlines() == [
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> [::]:8080",
        "90/udp -> 127.0.0.1:8000",
        "91/udp -> 127.0.0.1:8001",
    ]
    assert minidock("port", "web", "90/udp").stdout == "127.0.0.1:8000\n"
    missing = minidock("port", "web", "81", check=False)
    assert (missing.returncode, missing.stderr) == (
        1,
        "minidock: no public port '81/tcp' published for web\n",
    )
    settings = json.loads(minidock("inspect", "web").stdout)[0]["NetworkSettings"]
    assert settings["IPAddress"] == settings["Networks"]["bridge"]["IPAddress"] == "172.17.0.2"
    assert settings["Ports"]["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": "8080"}
    assert settings["Ports"]["443/tcp"] is None
    taken = minidock("run", "--rm", "-p", "8080:80", "busybox", "true", check=False)
    assert taken.returncode == 125
    assert "Bind for 0.0.0.0:8080 failed: port is already allocated" in taken.stderr
    assert len(taken.stderr.splitlines()) == 2


def test_show_draws_what_is_there(minidock: Cli) -> None:
    minidock("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000")
    text = minidock("network", "show").stdout
    assert re.search(r"├── bridge md[0-9a-f]{8}-0  \(network bridge, 172\.17\.0\.1/16\)", text)
    assert re.search(r"└── cable veth\w+", text)
    assert re.search(r"═══ container web  \(eth0 172\.17\.0\.2/16, 02:42:ac:11:00:02, net:\[\d+\]\)", text)
    assert "tcp 8080 → 172.17.0.2:80" in text
    assert "172.17.0.0/16 → outside" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "80:80:80:80"], "invalid IP address: 80:80"),
        (["-p", "80/icmp"], "invalid proto: icmp"),
        (["-p", "1000-1002:80-81"], "invalid ranges specified"),
        (["-p", "70000:80"], "invalid hostPort: 70000"),
        (["--network-alias", "x"], "supported only for containers in user defined networks"),
        (["--mac-address", "zz"], "zz is not a valid mac address"),
        (["--dns", "one"], "one is not an ip address"),
        (["--add-host", "name"], "bad format for add-host"),
        (["--network", "host", "--network", "bridge"], "cannot attach both host and user-defined networks"),
        (["--link", "nobody"], "No such container: nobody"),
        (["--network", "nope"], "network nope not found"),
        (["--link-local-ip", "x"], "x is not an ip address"),
        (["--network", "name=bridge,driver-opt=x"], "invalid key value pair format in driver options: x"),
    ],
)
def test_what_cannot_be(minidock: Cli, root: Path, options: list[str], message: str) -> None:
    done = minidock("run", *options, "busybox", "true", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert not list((root / "containers").glob("[0-9a-f]*"))


def test_options_for_one_endpoint(minidock: Cli) -> None:
    minidock("network", "create", "in side")
    minidock("create", "--name", "web", "--link-local-ip", "169.254.7.7", "--network", "in side", "busybox")
    minidock("network", "connect", "--driver-opt", "a=b", "--link-local-ip", "169.254.7.8", "bridge", "web")
    found = json.loads(minidock("inspect", "web").stdout)[0]["NetworkSettings"]["Networks"]
    assert found["in side"]["IPAMConfig"] == {"LinkLocalIPs": ["169.254.7.7"]}
    assert (found["bridge"]["DriverOpts"], found["bridge"]["IPAMConfig"]) == (
        {"a": "b"},
        {"LinkLocalIPs": ["169.254.7.8"]},
    )
