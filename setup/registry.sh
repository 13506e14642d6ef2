#!/usr/bin/env bash
# The course's registry: Debian's docker-registry on loopback, filled with images made on this machine.
#   registry.sh start | stop | status | seed MINIDOCK | address
# Data, configuration, log and pid file are in /var/lib/minidock-registry. Under systemd it is a service
# (minidock-registry.service), elsewhere a background process.
set -euo pipefail

setup=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${MINIDOCK_REGISTRY_HOME:-/var/lib/minidock-registry}
unit=minidock-registry.service
configuration=$home/registry.yml

say() { printf '  %-10s %s\n' registry "$1"; }
fail() {
    printf 'registry: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '          %s\n' "$2" >&2
    exit 1
}

configured_port() { sed -n 's/^ *addr: 127\.0\.0\.1:\([0-9]*\)$/\1/p' "$configuration" 2>/dev/null; }
port=${MINIDOCK_REGISTRY_PORT:-$(configured_port || true)}
port=${port:-5000}

by_systemd() { [ -d /run/systemd/system ] && [ "$home" = /var/lib/minidock-registry ]; }

images() { (cd "$home/data/docker/registry/v2/repositories/library" && echo *); }

# Answers on our port of *this* network namespace, whoever it is.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

running() {
    if by_systemd; then
        systemctl --quiet is-active "$unit"
    else
        local pid
        pid=$(cat "$home/registry.pid" 2>/dev/null) && [ -r "/proc/$pid/cmdline" ] &&
            tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "serve $configuration"
    fi
}

write_configuration() {
    mkdir -p "$home/data"
    [ -s "$home/secret" ] || (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$home/secret")
    local text
    text=$(
        cat <<END
version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: $home/data
  delete:
    enabled: true
http:
  addr: 127.0.0.1:$port
  secret: $(cat "$home/secret")
END
    )
    [ "$(cat "$configuration" 2>/dev/null)" = "$text" ] && return 1
    (umask 077 && printf '%s\n' "$text" >"$configuration")
}

start() {
    local changed=
    write_configuration && changed=yes
    if running && answers && [ -z "$changed" ]; then
        say "is running on 127.0.0.1:$port"
        return
    fi
    ! running || stop >/dev/null
    if answers; then
        local owner
        owner=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:((\("[^"]*"\),pid=\([0-9]*\).*/\1, process \2/p' | head -n 1)
        fail "port $port of 127.0.0.1 is taken${owner:+ (by $owner)}" "Choose another: MINIDOCK_REGISTRY_PORT=5050 make setup"
    fi
    # It reads its configuration and owns its data; the directory with the pid file stays root's.
    chown -R docker-registry: "$home/data" "$configuration"
    rm -f "$home/registry.pid"
    if by_systemd; then
        say "starting $unit on 127.0.0.1:$port"
        cat >"/etc/systemd/system/$unit" <<END
[Unit]
Description=minidock course registry on 127.0.0.1:$port
After=network.target

[Service]
User=docker-registry
ExecStart=/usr/bin/docker-registry serve $configuration
Restart=on-failure

[Install]
WantedBy=multi-user.target
END
        systemctl daemon-reload
        systemctl --quiet enable "$unit"
        systemctl restart "$unit"
    else
        say "starting on 127.0.0.1:$port (no systemd here: a background process, log in $home/registry.log)"
        # No descriptor of ours goes along: `make setup | cat` must end when set-up does.
        start-stop-daemon --start --quiet --background --make-pidfile --pidfile "$home/registry.pid" \
            --chuid docker-registry --chdir "$home" --output "$home/registry.log" \
            --startas /usr/bin/docker-registry -- serve "$configuration"
    fi
    for _ in $(seq 200); do
        answers && return
        sleep 0.05
    done
    if by_systemd; then journalctl --unit "$unit" --lines 10 --no-pager; else tail -n 10 "$home/registry.log"; fi >&2
    fail "docker-registry does not answer on 127.0.0.1:$port" "Its last messages are above."
}

stop() {
    if by_systemd; then
        systemctl --quiet disable --now "$unit" 2>/dev/null || true
    elif running; then
        kill "$(cat "$home/registry.pid")"
        while running; do sleep 0.05; done
        rm -f "$home/registry.pid"
    fi
    say "stopped"
}

status() {
    running && answers && { say "running on 127.0.0.1:$port"; return; }
    say "not running"
    return 1
}

seed() {
    local engine=$1 recipe work=$home/images
    recipe=$(/usr/bin/python3 -B "$setup/images.py" recipe)
    if [ "$(cat "$home/seeded" 2>/dev/null)" = "$recipe" ]; then
        say "holds the course images: $(images)"
        return
    fi
    say "making the course images from Debian packages (half a minute)"
    local log=$home/images.log
    if ! {
        /usr/bin/python3 -B "$setup/images.py" build "$work" &&
            /usr/bin/python3 -B "$setup/images.py" push "$work" "127.0.0.1:$port" &&
            /usr/bin/python3 -B "$setup/images.py" httpd "$work" "127.0.0.1:$port" "$engine"
    } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "the course images could not be made" "The last messages are above, all of them in $log."
    fi
    rm -rf "$work" # the registry has it all now
    echo "$recipe" >"$home/seeded"
    say "holds the course images: $(images)"
}

case ${1:-} in
start | stop | status) "$1" ;;
seed) seed "${2:?which minidock}" ;;
address) echo "127.0.0.1:$port" ;;
*)
    sed -n '2,5p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
