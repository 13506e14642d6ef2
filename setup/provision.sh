#!/usr/bin/env bash
# Makes a Debian 12+ or Ubuntu 24.04+ machine ready for minidock and its course. Used by `make setup`, by the
# Vagrantfile and by the test VM: one script, so that all three have the same.
#
# Every step looks first, says in one line what it does, and does nothing the second time. Arguments choose steps
# (packages python command group registry config resume); without any, all of them are taken in this order.
#   MINIDOCK_REGISTRY_PORT=5000   the loopback port of the registry that serves as mirror
#   MINIDOCK_VENV=DIR             where the virtual environment goes (default: .venv beside the Makefile)
#   MINIDOCK_BIN=/usr/local/bin   where the link to the command goes
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setup=$repository/setup
venv=${MINIDOCK_VENV:-$repository/.venv}
python=/usr/bin/python3 # Debian's own: one from pyenv or conda may vanish under the environment

# python3-venv makes the environment; busybox-static, mmdebstrap and a keyring the course images; docker-registry is the
# mirror; nftables and iproute2 are for networks; tini is --init; skopeo, which brings Docker's seccomp profile, proves
# in the tests that others read what we write; linux-libc-dev has the kernel's numbers that they compare ours with;
# procps, strace and curl are for the lessons' shells; shellcheck reads our scripts in `make lint`.
packages=(
    python3 python3-venv busybox-static mmdebstrap debian-archive-keyring docker-registry
    nftables iproute2 tini skopeo linux-libc-dev procps strace shellcheck curl ca-certificates
)

say() { printf '  %-10s %s\n' "$1" "$2"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '       %s\n' "$2" >&2
    exit 1
}
quietly() { # runs a command; shows its last messages only when it fails
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
}

step_packages() {
    local package state missing=()
    for package in "${packages[@]}"; do
        state=$(dpkg-query --showformat='${db:Status-Status}' --show "$package" 2>/dev/null || true)
        [ "$state" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        say packages "all ${#packages[@]} are there"
        return
    fi
    say packages "installing ${missing[*]}"
    # Debian starts a service as it installs it, and its docker-registry would take port 5000: tell it not to.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f $policy' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    { quietly apt-get update -q && quietly apt-get install -yq --no-install-recommends "${missing[@]}"; } ||
        fail "apt-get could not install ${missing[*]}" "Its messages are above; is the network up?"
    # Nor at the next boot; the course's own is minidock-registry.service.
    if [[ " ${missing[*]} " == *" docker-registry "* ]] && command -v systemctl >/dev/null; then
        quietly systemctl disable docker-registry.service || true
    fi
}

python_version() { $python -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

step_python() {
    local version stamp wanted
    version=$(python_version)
    $python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python $version is too old: minidock needs 3.11" "Debian 12 and Ubuntu 24.04 have it."
    stamp=$venv/.minidock-setup
    wanted=$(cat "$repository/requirements.txt" <(echo "$version $venv $repository") | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        say python "$venv is up to date (Python $version)"
        return
    fi
    say python "making $venv (Python $version, $(grep -c == "$repository/requirements.txt") pinned packages)"
    rm -f "$stamp"
    if [ -d "$venv" ] && ! sound_environment "$version"; then
        rm -rf "$venv"
    fi
    [ -x "$venv/bin/python" ] || quietly $python -m venv "$venv" || fail "no virtual environment in $venv"
    quietly "$venv/bin/pip" install --disable-pip-version-check --requirement "$repository/requirements.txt" ||
        fail "pip could not install requirements.txt" "Its messages are above; is the network up?"
    # Notebooks `import minidock` wherever they stand.
    echo "$repository" >"$venv/lib/python$version/site-packages/minidock.pth"
    echo "$wanted" >"$stamp"
}

# An environment of another Python, or one that was moved to this place, cannot be mended.
sound_environment() {
    "$venv/bin/python" -c '' 2>/dev/null && grep -q "^version = $1" "$venv/pyvenv.cfg" &&
        head -n 1 "$venv/bin/pip" | grep -qF "#!$venv/bin/"
}

step_command() {
    local launcher
    launcher=$(launcher_text)
    if [ "$(cat "$venv/bin/minidock" 2>/dev/null)" != "$launcher" ]; then
        say command "writing $venv/bin/minidock"
        printf '%s\n' "$launcher" >"$venv/bin/minidock.new"
        chmod 755 "$venv/bin/minidock.new"
        mv "$venv/bin/minidock.new" "$venv/bin/minidock"
    fi
    local link=${MINIDOCK_BIN:-/usr/local/bin}/minidock
    if [ "$(readlink "$link" || true)" = "$venv/bin/minidock" ]; then
        say command "minidock is on the PATH ($link)"
    else
        say command "linking $link to $venv/bin/minidock"
        ln -sfn "$venv/bin/minidock" "$link"
    fi
}

# -I and -S skip the search for site packages, half of Python's start: the launcher names the two places itself.
launcher_text() {
    local first="#!$venv/bin/python -IS"
    if [ ${#first} -gt 120 ] || [[ $venv == *[[:space:]]* ]]; then
        # Kernels cut long first lines and split at spaces: the shell starts it, and Python reads that as a string.
        first="#!/bin/sh
'''exec' \"$venv/bin/python\" -IS \"\$0\" \"\$@\"
' '''"
    fi
    cat <<END
$first
import sys

sys.path += ["$repository", "$venv/lib/python$(python_version)/site-packages"]
from minidock.__main__ import main

main()
END
}

# Who is in this group may use the socket of `minidock serve`, and is root by that: nobody is put into it.
step_group() {
    if getent group minidock >/dev/null; then
        say group "minidock may use the socket of minidock serve"
    else
        say group "making minidock: its members may use the socket of minidock serve, which makes them root"
        groupadd --system minidock
    fi
}

step_registry() {
    "$setup/registry.sh" start
    "$setup/registry.sh" seed "$venv/bin/minidock"
}

step_config() {
    local configuration=/etc/minidock/daemon.json mirror
    mirror="http://$("$setup/registry.sh" address)"
    if [ ! -e $configuration ]; then
        say config "writing $configuration with the mirror $mirror"
        mkdir -p /etc/minidock
        printf '{\n  "registry-mirrors": ["%s"]\n}\n' "$mirror" >$configuration
    elif grep -qF "\"$mirror\"" $configuration; then
        say config "$configuration names the mirror $mirror"
    else
        say config "$configuration is yours and stays; add \"$mirror\" to its registry-mirrors for the course images"
    fi
}

# Containers with a restart policy come back when the machine does.
step_resume() {
    local unit=/etc/systemd/system/minidock-resume.service text
    if [ ! -d /run/systemd/system ]; then
        say resume "no systemd here: after a boot, \`minidock resume\` starts what restart policies want running"
        return
    fi
    text="[Unit]
Description=minidock: start the containers whose restart policy wants them running
After=network-online.target minidock-registry.service
Wants=network-online.target

[Service]
Type=oneshot
# The shims of the containers are part of this service: they live on when the command has ended, also when one
# container could not start (-), and are told when the machine goes down.
RemainAfterExit=yes
ExecStart=-${MINIDOCK_BIN:-/usr/local/bin}/minidock resume

[Install]
WantedBy=multi-user.target"
    if [ "$(cat $unit 2>/dev/null)" = "$text" ]; then
        say resume "minidock-resume.service starts containers at boot"
        return
    fi
    say resume "writing $unit: containers with a restart policy start at boot"
    printf '%s\n' "$text" >$unit
    systemctl daemon-reload
    systemctl --quiet enable minidock-resume.service
}

[ "$(id -u)" = 0 ] || fail "must be root: it installs packages and writes /etc/minidock" "Try: sudo make setup"
command -v apt-get >/dev/null ||
    fail "no apt-get: this set-up knows Debian 12+ and Ubuntu 24.04+" "On any other laptop the VM does it: vagrant up"
[ $# -gt 0 ] || set -- packages python command group registry config resume
for step; do
    "step_$step"
done
