#!/usr/bin/env bash
# world.sh COMMAND…: runs COMMAND in a throwaway world, for the notebooks.
#
# Its own network with its own registry (a copy of the course's, so that a lesson may push), its own state root and
# configuration, its own home directory. Paths are the same each time, so that notebooks print the same. When COMMAND
# ends, all of it is gone; what was left running or mounted is named and makes the script fail.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${MINIDOCK_VENV:-$repository/.venv}
python=$venv/bin/python
root=/var/lib/minidock-course
seed=${MINIDOCK_SEED:-/var/lib/minidock-registry}/data

inside() { # in namespaces of its own; $1 is the base directory
    local base=$1 registry code
    shift
    ip link set lo up
    cp -r "$seed" "$base/registry"
    cat >"$base/registry.yml" <<END
{"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": true}},
 "storage": {"filesystem": {"rootdirectory": "$base/registry"}, "delete": {"enabled": true}},
 "http": {"addr": "127.0.0.1:5000", "secret": "course"}}
END
    docker-registry serve "$base/registry.yml" >"$base/registry.log" 2>&1 &
    registry=$!
    mkdir "$base/root" "$base/home" "$base/repository"
    mount --bind "$base/root" "$root"
    mount --bind "$repository" "$base/repository"
    mount --bind "$base/home" /root
    case $repository/ in /root/*) # the repository itself is still needed where it was
        mkdir -p "$repository"
        mount --bind "$base/repository" "$repository"
        ;;
    esac
    printf '{"registry-mirrors": ["http://127.0.0.1:5000"]}\n' >"$base/daemon.json"
    until (exec 3<>/dev/tcp/127.0.0.1/5000) 2>/dev/null; do
        kill -0 $registry 2>/dev/null || { cat "$base/registry.log" >&2; exit 1; }
        sleep 0.02
    done
    code=0
    HOME=/root MINIDOCK_ROOT=$root MINIDOCK_CONFIG=$base/daemon.json PATH=$venv/bin:$PATH "$@" || code=$?
    kill $registry
    wait $registry 2>/dev/null || true
    for container in "$root"/containers/*/; do
        [ -d "$container" ] || continue
        echo "left behind: container $(basename "$container"): $(head -c 300 "$container/config.json" | tr -d '\n')" >&2
        code=1
    done
    return $code
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
    exit
fi

[ $# -gt 0 ] || { sed -n '2,6p' "${BASH_SOURCE[0]}" >&2; exit 2; }
exec 9>/run/minidock-world.lock
flock 9 # one world at a time: the paths are the same for all
mkdir -p "$root"
base=$("$python" "$repository/tests/leaks.py" begin "$root")
unset MINIDOCK_LAYERS SUDO_USER SUDO_UID SUDO_GID
code=0
unshare --mount --net --propagation private "${BASH_SOURCE[0]}" --inside "$base" "$@" 9>&- || code=$?
rmdir "$root" # nothing was ever written into it: a directory was mounted over it
"$python" "$repository/tests/leaks.py" end "$base" || code=1
exit $code
