#!/usr/bin/env bash
# boot.sh SUITE COMMAND…: boots a throwaway copy of the machine that image.sh made, under QEMU's software emulation,
# copies the repository in, runs COMMAND there as root and exits with its exit code (125: the machine never came up).
#   MINIDOCK_VM_ACCEL=tcg   kvm where it works     MINIDOCK_VM_MEMORY=3072   MiB
#   MINIDOCK_VM_RETURN="FILE…"   files of the repository that come back when COMMAND has succeeded
#   MINIDOCK_VM_REBOOTS=0        how often COMMAND may boot the machine again; it is run once more after each boot
set -euo pipefail

suite=$1
shift
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=${MINIDOCK_VM:-/var/cache/minidock-vm}
reboots=${MINIDOCK_VM_REBOOTS:-0}
once=(-no-reboot) # a kernel that panics ends the machine
[ "$reboots" = 0 ] || once=()
run=$(mktemp -d -p "$lab" run.XXXXXX)
machine=
trap '[ -z "$machine" ] || kill "$machine" 2>/dev/null && wait "$machine" || true; rm -rf "$run"' EXIT
trap 'exit 130' INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
qemu-img create -q -f qcow2 -b "$lab/$suite.img" -F raw "$run/disk.qcow2"
qemu-system-x86_64 -machine q35 -accel "${MINIDOCK_VM_ACCEL:-tcg,thread=multi}" -cpu max -smp 2 \
    -m "${MINIDOCK_VM_MEMORY:-3072}" -nographic -nodefaults "${once[@]}" \
    -kernel "$lab/$suite.vmlinuz" -initrd "$lab/$suite.initrd" \
    -append "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off net.ifnames=0 systemd.show_status=0" \
    -serial "file:$run/console" -device virtio-rng-pci \
    -drive "file=$run/disk.qcow2,if=none,id=disk,cache=unsafe" -device virtio-blk-pci,drive=disk \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net,romfile= \
    >"$run/qemu" 2>&1 </dev/null &
machine=$!

guest() {
    ssh -q -i "$lab/key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=10 -o ServerAliveInterval=30 root@127.0.0.1 "$@"
}
await_boot() { # until the machine answers, in another boot than before
    local limit=$((SECONDS + 300)) before=${boot:-}
    until boot=$(guest cat /proc/sys/kernel/random/boot_id </dev/null 2>/dev/null) && [ "$boot" != "$before" ]; do
        if ! kill -0 "$machine" 2>/dev/null || [ $SECONDS -gt $limit ]; then
            echo "vm: the machine did not come up" >&2
            tail -n 20 "$run/console" "$run/qemu" >&2
            exit 125
        fi
        sleep 0.5
    done
    echo "vm: $suite is up after $SECONDS s: $(guest uname -r </dev/null)"
}
await_boot
tar -C "$repository" --exclude=.git --exclude=.venv --exclude=__pycache__ -c . |
    guest 'find /minidock -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} + && tar -C /minidock -x --no-same-owner'
read -ra returned <<<"${MINIDOCK_VM_RETURN:-}"
while true; do
    code=0
    guest -- cd /minidock '&&' "$(printf '%q ' "$@")" </dev/null || code=$?
    # 255: the line broke, for the machine went down.
    if [ $code != 255 ] || [ "$reboots" = 0 ]; then
        break
    fi
    reboots=$((reboots - 1))
    await_boot
done
if [ "$code" = 0 ] && [ ${#returned[@]} -gt 0 ]; then
    guest -- tar -C /minidock -c "$(printf '%q ' "${returned[@]}")" </dev/null |
        tar -C "$repository" -x --no-same-owner
fi
echo "vm: exit code $code after $SECONDS s"
exit "$code"
