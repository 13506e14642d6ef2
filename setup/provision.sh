#!/usr/bin/env bash
# Makes a Debian 12+ or Ubuntu 24.04+ machine ready for minidock and its course. Used by `make setup`, by the
# Vagrantfile and by the test VM: one script, so that all three have the same.
#
# Every step looks first, says in one line what it does, and does nothing the second time.
#   MINIDOCK_REGISTRY_PORT=5000   the loopback port of the registry that serves as mirror
#   MINIDOCK_VENV=DIR             where the virtual environment goes (default: .venv beside this repository's Makefile)
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setup=$repository/setup
venv=${MINIDOCK_VENV:-$repository/.venv}
python=/usr/bin/python3

say() { printf '  %-12s %s\n' "$1" "$2"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '       %s\n' "$2" >&2
    exit 1
}

# ── what must be there ──

[ "$(id -u)" = 0 ] || fail "must run as root: it installs packages and writes /etc/minidock" "Try: sudo make setup"
command -v apt-get >/dev/null || fail "no apt-get: this set-up knows Debian 12+ and Ubuntu 24.04+" "In the VM of the Vagrantfile it works on any laptop: vagrant up"

# ── packages ──

# Each for a reason: python3-venv the environment; busybox-static, mmdebstrap and a keyring the course images;
# docker-registry the mirror; nftables and iproute2 the networks; tini is --init; skopeo (which brings Docker's seccomp
# profile) proves in the tests that others read what we write; procps and strace are for the lessons' shells.
packages=(
    python3 python3-venv busybox-static mmdebstrap debian-archive-keyring docker-registry
    nftables iproute2 tini skopeo procps strace ca-certificates
)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query --showformat='${db:Status-Status}' --show "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} = 0 ]; then
    say packages "all ${#packages[@]} are there"
else
    say packages "installing ${missing[*]}"
    # Debian starts a service as it installs it. A registry of the distribution's own would take port 5000: tell it not to.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if ! { apt-get update -q && apt-get install -yq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "apt-get could not install ${missing[*]}" "Its messages are above; is the network up?"
    fi
    rm -f "$log"
    if [[ " ${missing[*]} " == *" docker-registry "* ]] && [ -d /run/systemd/system ]; then
        systemctl --quiet disable --now docker-registry.service 2>/dev/null || true # ours is minidock-registry.service
    fi
    if [ -e "$policy" ] && [ -n "$(trap -p EXIT)" ]; then
        rm -f "$policy"
        trap - EXIT
    fi
fi

version=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python $version is too old: minidock needs 3.11" "Debian 12 and Ubuntu 24.04 have it."

# ── the Python environment ──

stamp=$venv/.minidock-setup
wanted=$(cat "$repository/requirements.txt" <(echo "$version $venv") | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    say python "$venv is up to date (Python $version)"
else
    say python "making $venv (Python $version, $(grep -c == "$repository/requirements.txt") pinned packages)"
    rm -f "$stamp"
    # An environment of another Python, or one that was moved here, cannot be mended.
    if [ -d "$venv" ] && ! { "$venv/bin/python" -c '' && grep -q "^version = $version" "$venv/pyvenv.cfg" &&
        head -n 1 "$venv/bin/pip" | grep -qF "#!$venv/bin/"; } 2>/dev/null; then
        rm -rf "$venv"
    fi
    [ -x "$venv/bin/python" ] || $python -m venv "$venv"
    log=$(mktemp)
    if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$repository/requirements.txt" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "pip could not install requirements.txt" "Its messages are above; is the network up?"
    fi
    rm -f "$log"
    # Notebooks `import minidock` wherever they stand.
    echo "$repository" >"$venv/lib/python$version/site-packages/minidock.pth"
    echo "$wanted" >"$stamp"
fi

# ── the command ──

# -I and -S skip the search for site packages, half of Python's start: the launcher names the two places itself.
interpreter=$venv/bin/python
shebang="#!$interpreter -IS"
if [ ${#shebang} -gt 120 ] || [[ $interpreter == *[[:space:]]* ]]; then
    # The kernel cuts long first lines and splits at spaces: let the shell start it (a Python reads this as a string).
    shebang=$'#!/bin/sh\n'"''':'
exec '$interpreter' -IS \"\$0\" \"\$@\"
'''"
fi
launcher=$(
    cat <<END
$shebang
import sys

sys.path += ["$repository", "$venv/lib/python$version/site-packages"]
from minidock.cli.main import main

sys.exit(main())
END
)
if [ "$(cat "$venv/bin/minidock" 2>/dev/null)" != "$launcher" ]; then
    say command "writing $venv/bin/minidock"
    rm -f "$venv/bin/minidock"
    printf '%s\n' "$launcher" >"$venv/bin/minidock"
    chmod 755 "$venv/bin/minidock"
fi
if [ "$(readlink /usr/local/bin/minidock || true)" = "$venv/bin/minidock" ]; then
    say command "minidock is on the PATH (/usr/local/bin/minidock)"
else
    say command "linking /usr/local/bin/minidock to $venv/bin/minidock"
    ln -sfn "$venv/bin/minidock" /usr/local/bin/minidock
fi

# ── the registry and its images ──

"$setup/registry.sh" start
"$setup/registry.sh" seed

# ── the configuration ──

configuration=/etc/minidock/daemon.json
mirror="http://$("$setup/registry.sh" address)"
if [ ! -e "$configuration" ]; then
    say config "writing $configuration with the mirror $mirror"
    mkdir -p /etc/minidock
    printf '{\n  "registry-mirrors": ["%s"]\n}\n' "$mirror" >"$configuration"
elif grep -qF "$mirror" "$configuration"; then
    say config "$configuration names the mirror $mirror"
else
    say config "$configuration is yours and stays; add \"$mirror\" to its registry-mirrors for the course images"
fi
