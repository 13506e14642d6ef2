#!/usr/bin/env bash
# test.sh [SUITE]: the tests marked `vm`, on cgroup v2, in a machine booted for them (`make vm-test`).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${1:-bookworm}
"$here/image.sh" "$suite"
# Everything in there takes 25–40 times as long; no state on tmpfs, of which an old kernel's has no user xattrs.
"$here/boot.sh" "$suite" sh -ec '
    test -e /sys/fs/cgroup/cgroup.controllers || { echo "vm: this is not cgroup v2" >&2; exit 1; }
    setup/provision.sh
    MINIDOCK_PATIENCE=30 MINIDOCK_LEAKS=strict .venv/bin/python -m pytest -m vm -p no:cacheprovider tests
'
