#!/usr/bin/env bash
# test.sh [SUITE]: on cgroup v2, in a machine booted for them (`make vm-test`), the tests marked `vm`, and those lessons
# and labs that have most to do with the kernel: 00 to 03. Then a reboot and a power cut, and what comes back after them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${1:-bookworm}
"$here/image.sh" "$suite"
# Everything in there takes 25–40 times as long; no state on tmpfs, of which an old kernel's has no user xattrs.
# All parts run, whatever the first says: a boot is dear.
code=0
# shellcheck disable=SC2016 # the guest's shell expands them
"$here/boot.sh" "$suite" bash -euc '
    test -e /sys/fs/cgroup/cgroup.controllers || { echo "vm: this is not cgroup v2" >&2; exit 1; }
    setup/provision.sh
    export MINIDOCK_PATIENCE=30 MINIDOCK_LEAKS=strict
    code=0
    .venv/bin/python -m pytest -m vm -p no:cacheprovider --durations=10 tests || code=$?
    shopt -s nullglob
    setup/world.sh .venv/bin/python -m pytest -p no:cacheprovider --durations=5 --nbval-lax \
        --nbval-cell-timeout=3600 --nbval-kernel-startup-timeout=600 \
        notebooks/0[0-3]_*.ipynb labs/0[13]_*/lab.ipynb || code=$?
    exit $code
' || code=$?
MINIDOCK_VM_REBOOTS=2 "$here/boot.sh" "$suite" setup/vm/reboot.sh || code=$?
exit $code
