"""Projects that really run: order, health, volumes, names, scale, what is made anew, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, Cli, cli_command

Write = Callable[..., Path]
Compose = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("busybox")

STAY = '["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]'
SHOP = f"""
services:
  web:
    image: busybox
    command: ["sh", "-c", "cp /etc/hostname /www/name; exec httpd -f -h /www -p 80"]
    volumes: ["www:/www"]
    ports: ["127.0.0.1:8088:80"]
    stop_signal: SIGKILL
    healthcheck: {{test: wget -q -O /dev/null http://127.0.0.1/name, interval: 50ms, retries: 100}}
  client:
    image: busybox
    command: {STAY}
    depends_on: {{web: {{condition: service_healthy}}}}
volumes: {{www: }}
"""


def rows(compose: Compose, *words: str) -> list[dict[str, Any]]:
    lines = compose("ps", "-a", "--format", "json", *words).stdout.splitlines()
    return [json.loads(line) for line in lines]


def ids(compose: Compose, *words: str) -> list[str]:
    return compose("ps", "-aq", *words).stdout.split()


def test_two_services_with_health_check_and_volume(compose: Compose, minidock: Cli, write: Write) -> None:
    write(SHOP)
    said = compose("up", "-d").stderr
    assert said.index("shop-web-1  Healthy") < said.index("shop-client-1  Starting")
    found = {row["Name"]: row for row in rows(compose)}
    assert sorted(found) == ["shop-client-1", "shop-web-1"]
    assert (found["shop-web-1"]["Health"], found["shop-web-1"]["State"]) == ("healthy", "running")

    name = compose("exec", "web", "hostname").stdout
    assert compose("exec", "client", "wget", "-q", "-O", "-", "http://web/name").stdout == name
    assert compose("port", "web", "80").stdout == "127.0.0.1:8088\n"
    assert "httpd" in compose("top", "web").stdout
    assert "shop-web-1" in compose("images").stdout
    assert compose("ls", "-q").stdout == "shop\n"

    labels = json.loads(minidock("inspect", "shop-web-1").stdout)[0]["Config"]["Labels"]
    assert labels["com.docker.compose.project"] == "shop"
    assert labels["com.docker.compose.service"] == "web"
    assert labels["com.docker.compose.container-number"] == "1"
    assert labels["com.docker.compose.oneoff"] == "False"
    assert labels["com.docker.compose.project.config_files"].endswith("/shop/compose.yaml")
    assert len(labels["com.docker.compose.config-hash"]) == 64
    network = json.loads(minidock("network", "inspect", "shop_default").stdout)[0]["Labels"]
    assert network["com.docker.compose.network"] == "default"

    before = ids(compose)
    compose("up", "-d")
    assert ids(compose) == before  # nothing changed: nothing is made anew

    compose("down")
    assert minidock("ps", "-aq").stdout == ""
    assert "shop_www" in minidock("volume", "ls", "-q").stdout
    compose("up", "-d")
    compose("down", "-v")
    assert minidock("ps", "-aq").stdout + minidock("volume", "ls", "-q").stdout == ""
    assert "shop" not in minidock("network", "ls").stdout


def test_only_what_changed_is_made_anew(compose: Compose, minidock: Cli, write: Write) -> None:
    text = f"""
        services:
          a: {{image: busybox, command: {STAY}, volumes: [/kept]}}
          b:
            image: busybox
            command: {STAY}
            depends_on: {{a: {{condition: service_started, restart: true}}}}
        """
    write(text)
    compose("up", "-d")
    compose("exec", "a", "touch", "/kept/mine")
    (a,), (b,) = ids(compose, "a"), ids(compose, "b")
    started = json.loads(minidock("inspect", b).stdout)[0]["State"]["StartedAt"]

    write(text.replace("volumes:", "environment: {NEW: '1'}, volumes:"))
    said = compose("up", "-d").stderr
    assert "shop-a-1  Recreated" in said and "shop-b-1  Restarting" in said
    assert ids(compose, "a") != [a] and ids(compose, "b") == [b]
    assert json.loads(minidock("inspect", b).stdout)[0]["State"]["StartedAt"] != started
    assert "mine" in compose("exec", "a", "ls", "/kept").stdout  # the anonymous volume was handed on
    assert minidock("volume", "ls", "-q").stdout.count("\n") == 1

    again = ids(compose)
    write(text)
    compose("up", "-d", "--no-recreate")
    assert ids(compose) == again
    compose("up", "-d", "--force-recreate", "-V", "a")
    assert "mine" not in compose("exec", "a", "ls", "/kept").stdout
    compose("down", "-v")
    assert minidock("volume", "ls", "-q").stdout == ""


def test_a_failed_recreation_keeps_the_old_container(compose: Compose, minidock: Cli, write: Write) -> None:
    text = f"services: {{a: {{image: busybox, command: {STAY}}}}}"
    write(text)
    compose("up", "-d")
    before = ids(compose)
    write(text.replace("image:", "working_dir: relative, image:"))
    failed = compose("up", "-d", check=False)
    assert failed.returncode == 1 and "needs to be an absolute path" in failed.stderr
    assert ids(compose) == before and rows(compose)[0]["Name"] == "shop-a-1"
    assert minidock("ps", "-aq").stdout.count("\n") == 1


def test_scale(compose: Compose, write: Write) -> None:
    write(f"services: {{a: {{image: busybox, command: {STAY}, deploy: {{replicas: 2}}}}}}")

    def names() -> list[str]:
        return [row["Name"] for row in rows(compose)]

    compose("up", "-d")
    assert names() == ["shop-a-1", "shop-a-2"]
    first = ids(compose)
    compose("up", "-d", "--scale", "a=3")
    assert names() == ["shop-a-1", "shop-a-2", "shop-a-3"] and ids(compose)[:2] == first
    assert compose("exec", "--index", "3", "a", "hostname").stdout.strip() == ids(compose)[2][:12]
    compose("up", "-d", "--scale", "a=1")
    assert names() == ["shop-a-1"] and ids(compose) == first[:1]
    compose("up", "-d", "--scale", "a=0")
    assert names() == []
    compose("down")


def test_completed_successfully_and_exit_codes(compose: Compose, write: Write) -> None:
    text = """
        services:
          setup: {image: busybox, command: ["sh", "-c", "echo ready > /d/f; exit CODE"], volumes: ["d:/d"]}
          main:
            image: busybox
            command: cat /d/f
            volumes: ["d:/d"]
            depends_on: {setup: {condition: service_completed_successfully}}
        volumes: {d: }
        """
    write(text.replace("CODE", "0"))
    done = compose("up", "--exit-code-from", "main", "main")
    assert "main-1   | ready" in done.stdout
    assert "main-1 exited with code 0" in done.stdout
    write(text.replace("CODE", "3"))
    failed = compose("up", check=False)
    assert failed.returncode == 1
    assert '"setup" did not complete successfully: exit code 3' in failed.stderr
    compose("down", "-v")


def test_abort_on_exit(compose: Compose, write: Write) -> None:
    write(
        f"""
        services:
          stays: {{image: busybox, command: {STAY}}}
          ends: {{image: busybox, command: ["sh", "-c", "echo bye; exit 7"]}}
        """
    )
    ended = compose("up", "--abort-on-container-exit", check=False)
    assert ended.returncode == 7 and "ends-1   | bye" in ended.stdout
    assert {row["State"] for row in rows(compose)} == {"exited"}
    assert compose("up", "-d", "--abort-on-container-exit", check=False).returncode == 1
    compose("down")


def test_ctrl_c_stops_gracefully(
    compose: Compose, root: Path, daemon_json: Path, tmp_path: Path, write: Write
) -> None:
    write(
        """
        services:
          a:
            image: busybox
            command: ["sh", "-c", "trap 'echo caught; exit 5' TERM; echo up; while :; do sleep 0.1; done"]
        """
    )
    process = subprocess.Popen(
        [*cli_command(), "--root", str(root), "compose", "up"],
        cwd=tmp_path / "shop",
        env=os.environ | {"MINIDOCK_CONFIG": str(daemon_json)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "a-1  | up\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30 * PATIENCE)
    assert process.returncode == 130
    assert rest.splitlines() == ["a-1  | caught", "a-1 exited with code 5"]
    compose("down")


def test_run(compose: Compose, minidock: Cli, write: Write) -> None:
    write(
        f"""
        services:
          db: {{image: busybox, command: {STAY}}}
          app:
            image: busybox
            entrypoint: ["echo", "entry"]
            command: ["usual"]
            environment: {{A: file, B: file}}
            ports: ["127.0.0.1:8089:80"]
            depends_on: [db]
        """
    )
    assert compose("run", "--rm", "app").stdout == "entry usual\n"
    assert compose("run", "--rm", "app", "other").stdout == "entry other\n"
    shown = compose(
        "run", "--rm", "--entrypoint", "sh", "-e", "A=flag", "app", "-c", "echo $A $B; exit 3", check=False
    )
    assert (shown.stdout, shown.returncode) == ("flag file\n", 3)
    assert compose("run", "--rm", "--entrypoint", "cat", "app", input="typed").stdout == "typed"
    assert [row["Service"] for row in rows(compose)] == ["db"]
    identifier = compose("run", "-d", "app").stdout.strip()
    labels = json.loads(minidock("inspect", identifier).stdout)[0]["Config"]["Labels"]
    assert labels["com.docker.compose.oneoff"] == "True"
    compose("down")
    assert minidock("ps", "-aq").stdout == ""


def test_networks_and_names(compose: Compose, write: Write) -> None:
    write(
        f"""
        services:
          front: {{image: busybox, command: {STAY}, networks: [outside, inside]}}
          back:
            image: busybox
            command: {STAY}
            networks: {{inside: {{aliases: [store], ipv4_address: 10.77.0.9}}}}
          side: {{image: busybox, command: {STAY}, network_mode: "service:back"}}
          alone: {{image: busybox, command: {STAY}, network_mode: none}}
        networks:
          outside:
          inside:
            internal: true
            ipam: {{config: [{{subnet: 10.77.0.0/24, aux_addresses: {{tv: 10.77.0.2, old: 10.77.0.3}}}}]}}
        """
    )
    compose("up", "-d")
    assert "10.77.0.4" in compose("exec", "front", "ip", "addr").stdout  # 1 is the gateway, 2 and 3 are kept
    assert "10.77.0.9" in compose("exec", "front", "nslookup", "store").stdout
    assert "10.77.0.9" in compose("exec", "front", "nslookup", "back").stdout
    assert "10.77.0.9" in compose("exec", "side", "ip", "addr").stdout
    assert "eth0" not in compose("exec", "alone", "ip", "addr").stdout
    compose("up", "-d", "--force-recreate", "back")
    compose("up", "-d")  # who shares a network is made anew with its owner
    assert "10.77.0.9" in compose("exec", "side", "ip", "addr").stdout
    compose("down")


def test_what_a_service_may_say_of_devices_swap_and_endpoints(
    compose: Compose, write: Write, minidock: Cli
) -> None:
    write(
        f"""
        services:
          web:
            image: busybox
            command: {STAY}
            runtime: runc
            mem_swappiness: 0
            device_cgroup_rules: ["c 42:* rmw"]
            networks: {{default: {{link_local_ips: [169.254.7.7], driver_opts: {{some: "a,b"}}}}}}
        """
    )
    compose("up", "-d")
    found = json.loads(minidock("inspect", compose("ps", "-q").stdout.strip()).stdout)[0]
    host, place = found["HostConfig"], found["NetworkSettings"]["Networks"]["shop_default"]
    assert (host["MemorySwappiness"], host["DeviceCgroupRules"]) == (0, ["c 42:* rmw"])
    assert (place["DriverOpts"], place["IPAMConfig"]["LinkLocalIPs"]) == ({"some": "a,b"}, ["169.254.7.7"])
    assert "inet 169.254.7.7/16 " in compose("exec", "web", "ip", "addr").stdout
    compose("down")


def test_secrets_and_configs(compose: Compose, write: Write) -> None:
    write("from a file", "key.txt")
    write(
        f"""
        services:
          a:
            image: busybox
            command: {STAY}
            secrets: [key, {{source: var, target: /var/secret, mode: 0400, uid: "7"}}]
            configs: [{{source: inline, target: /etc/app.conf}}]
        secrets:
          key: {{file: key.txt}}
          var: {{environment: MY_SECRET}}
        configs:
          inline: {{content: "port=${{PORT:-80}}"}}
        """
    )
    secret = {"MY_SECRET": "from the environment"}
    compose("up", "-d", env=secret)
    assert compose("exec", "a", "cat", "/run/secrets/key").stdout == "from a file"
    assert compose("exec", "a", "cat", "/var/secret", "/etc/app.conf").stdout == "from the environmentport=80"
    assert compose("exec", "a", "stat", "-c", "%a %u", "/var/secret").stdout == "400 7\n"
    assert "from the environment" not in compose("config", env=secret).stdout
    before = ids(compose)
    compose("up", "-d", env={**secret, "PORT": "81"})
    assert ids(compose) != before
    compose("down")
    assert '"MY_SECRET" is not set' in compose("up", "-d", check=False).stderr


def test_build(compose: Compose, minidock: Cli, write: Write) -> None:
    write(
        "FROM busybox\nARG WHO=file\nRUN grep 10.1.2.3 /etc/hosts\nRUN echo $WHO > /who\nCMD cat /who",
        "app/Dockerfile",
    )
    write(
        """
        services:
          app: {build: {context: app, args: {WHO: compose}, extra_hosts: [friend=10.1.2.3]}}
          inline:
            image: inlined:1
            build: {dockerfile_inline: "FROM busybox\\nCOPY app/Dockerfile /d\\nCMD wc -l < /d"}
        """
    )
    done = compose("up")
    assert "app-1     | compose" in done.stdout and "inline-1  | 4" in done.stdout
    assert "shop-app" in minidock("images").stdout
    write("FROM busybox\nCMD echo changed", "app/Dockerfile")
    assert "changed" not in compose("up", "app").stdout
    assert "changed" in compose("up", "--build", "app").stdout
    quiet = compose("build", "-q", "app")  # a warning is all that is said
    assert (quiet.stdout, quiet.stderr.count("\n")) == ("", 1) and "WHO" in quiet.stderr
    write("FROM busybox\nRUN exit 3", "app/Dockerfile")
    failed = compose("build", "-q", "app", check=False)
    assert failed.returncode != 0 and "services.app" in failed.stderr
    compose("up", "-d", check=False)
    kept = minidock("images", "-q").stdout
    done = compose("down", "--rmi", "some", check=False)
    assert (done.returncode, minidock("images", "-q").stdout) == (1, kept)
    compose("down", "--rmi", "local")
    images = minidock("images").stdout
    assert "shop-app" not in images and "inlined" in images
    compose("down", "--rmi", "all")
    assert "inlined" not in minidock("images").stdout


def test_lifecycle_verbs(compose: Compose, write: Write, tmp_path: Path) -> None:
    write(f"services: {{a: {{image: busybox, command: {STAY}}}, b: {{image: busybox, command: {STAY}}}}}")

    def states() -> list[str]:
        return [row["State"] for row in rows(compose)]

    compose("create")
    assert states() == ["created", "created"]
    compose("start")
    assert states() == ["running", "running"]
    compose("pause", "a")
    assert states() == ["paused", "running"]
    compose("unpause")
    compose("stop", "b")
    assert states() == ["running", "exited"]
    compose("restart")
    assert states() == ["running", "running"]
    (tmp_path / "shop/note").write_text("hello")
    compose("cp", "note", "a:/tmp/note")
    assert compose("exec", "a", "cat", "/tmp/note").stdout == "hello"
    compose("cp", "a:/tmp/note", "back")
    assert (tmp_path / "shop/back").read_text() == "hello"
    compose("kill", "a")
    assert states() == ["exited", "running"]
    compose("rm", "-f")
    assert [row["Service"] for row in rows(compose)] == ["b"]
    compose("rm", "-s", "-f", "-v")
    assert states() == []
    assert "start" in compose("events", "--since", "1h", "--until", "0s", "a").stdout
    compose("down")


def test_logs(compose: Compose, write: Write) -> None:
    write(
        """
        services:
          one: {image: busybox, command: ["sh", "-c", "echo a; echo b; printf c"]}
          second: {image: busybox, command: ["echo", "x"]}
        """
    )
    up = compose("up")
    assert sorted(line for line in up.stdout.splitlines() if "|" in line) == [
        "one-1     | a",
        "one-1     | b",
        "one-1     | c",
        "second-1  | x",
    ]
    assert compose("logs", "--tail", "1", "second").stdout == "second-1  | x\n"
    assert compose("logs", "-f", "--no-log-prefix", "one").stdout == "a\nb\nc\n"
    assert "\x1b[36msecond-1  | \x1b[0mx" in compose("--ansi", "always", "logs", "second").stdout
    compose("down")


def test_without_the_file_and_orphans(compose: Compose, minidock: Cli, write: Write) -> None:
    file = write(
        f"services: {{a: {{image: busybox, command: {STAY}}}, old: {{image: busybox, command: {STAY}}}}}"
    )
    compose("up", "-d")
    write(f"services: {{a: {{image: busybox, command: {STAY}}}}}")
    assert "orphan containers of this project: shop-old-1" in compose("up", "-d").stderr
    compose("up", "-d", "--remove-orphans")
    assert [row["Name"] for row in rows(compose)] == ["shop-a-1"]
    file.unlink()
    assert compose("-p", "shop", "ps", "-q").stdout.count("\n") == 1
    compose("-p", "shop", "down")
    assert minidock("ps", "-aq").stdout == ""


def test_external_resources_must_exist(compose: Compose, minidock: Cli, write: Write) -> None:
    write(
        """
        services: {a: {image: busybox, command: ls /v, volumes: ["v:/v"], networks: [n]}}
        volumes: {v: {external: true, name: mine}}
        networks: {n: {external: true}}
        """
    )
    assert "minidock network create n" in compose("up", check=False).stderr
    minidock("network", "create", "n")
    assert "minidock volume create mine" in compose("up", check=False).stderr
    minidock("volume", "create", "mine")
    compose("up")
    compose("down", "-v")
    assert "mine" in minidock("volume", "ls", "-q").stdout
    minidock("network", "rm", "n")


def test_options_reach_the_container(compose: Compose, minidock: Cli, write: Write) -> None:
    write(
        f"""
        services:
          a:
            image: busybox
            command: {STAY}
            hostname: host
            user: "65534"
            working_dir: /tmp
            cap_drop: [ALL]
            read_only: true
            tmpfs: /scratch:size=1m
            shm_size: 1m
            init: true
            mem_limit: 64m
            deploy:
              resources: {{limits: {{cpus: "0.5", pids: 20}}}}
              restart_policy: {{condition: on-failure, max_attempts: 2}}
            ulimits: {{nofile: {{soft: 100, hard: 200}}}}
            sysctls: {{net.ipv4.ip_unprivileged_port_start: 1}}
            extra_hosts: ["friend:10.1.2.3"]
            dns: 10.9.9.9
            stop_grace_period: 1m5s
            stop_signal: SIGINT
            logging: {{options: {{max-size: 1m}}}}
            security_opt: ["no-new-privileges:true"]
            expose: ["90"]
            devices: [/dev/fuse]
        """
    )
    compose("create")
    shown = json.loads(minidock("inspect", "shop-a-1").stdout)[0]
    host, own = shown["HostConfig"], shown["Config"]
    assert (own["Hostname"], own["User"], own["WorkingDir"]) == ("host", "65534", "/tmp")
    assert (own["StopSignal"], own["StopTimeout"]) == ("SIGINT", 65)
    assert "90/tcp" in own["ExposedPorts"]
    assert (host["Memory"], host["PidsLimit"], host["ShmSize"]) == (64 << 20, 20, 1 << 20)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert host["ReadonlyRootfs"] is True and host["CapDrop"] == ["ALL"] and host["Init"] is True
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 100, "Hard": 200}]
    assert host["ExtraHosts"] == ["friend:10.1.2.3"] and host["Dns"] == ["10.9.9.9"]
    assert host["Sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "1"}
    assert host["LogConfig"]["Config"] == {"max-size": "1m"}
    compose("down")


def test_wait(compose: Compose, write: Write) -> None:
    text = (
        f"services: {{a: {{image: busybox, command: {STAY}, healthcheck: {{test: exit 0, interval: 50ms}}}}}}"
    )
    write(text)
    compose("up", "--wait")
    assert rows(compose)[0]["Health"] == "healthy"
    write(text.replace("exit 0, interval: 50ms", "exit 1, interval: 50ms, retries: 2"))
    failed = compose("up", "--wait", check=False)
    assert failed.returncode == 1 and "container shop-a-1 is unhealthy" in failed.stderr
    compose("down")
