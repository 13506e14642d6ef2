#!/usr/bin/env bash
# notebooks.sh FILE…: executes notebooks again on cgroup v2 and brings them back, as `make notebooks` does on this
# machine. Lesson 03 shows its students the files of cgroup v2, which a machine with v1 does not have.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${SUITE:-bookworm}
[ $# -gt 0 ] || { sed -n '2,3p' "${BASH_SOURCE[0]}" >&2; exit 2; }
"$here/image.sh" "$suite"
MINIDOCK_VM_RETURN="$*" "$here/boot.sh" "$suite" bash -euc '
    setup/provision.sh
    MINIDOCK_PATIENCE=30 setup/world.sh .venv/bin/python setup/notebooks.py "$@"
' notebooks.sh "$@"
