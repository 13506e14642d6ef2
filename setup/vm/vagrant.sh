#!/usr/bin/env bash
# vagrant.sh: a real `vagrant up --provider=libvirt` of the shipped Vagrantfile (`make vagrant-test`), with a box made
# from the test machine of image.sh. Then: JupyterLab answers on the forwarded port, with its token only; a container
# runs; a second `vagrant provision` changes nothing.
#
# libvirt gets network, /etc/libvirt, /run and /var/lib/libvirt of its own, so it disturbs none that runs here, and the
# host's firewall and cgroups stay as they are.
#   MINIDOCK_VM=/var/cache/minidock-vm   where the image, the box and Vagrant's home are
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
lab=${MINIDOCK_VM:-/var/cache/minidock-vm}
suite=bookworm

say() { echo "vagrant: $*"; }

make_box() { # the box's own Vagrantfile says how to boot here: emulated, with the kernel outside of the disk
    local parts=$run/box
    mkdir "$parts"
    cat >"$parts/Vagrantfile" <<END
Vagrant.configure("2") do |config|
  config.ssh.private_key_path = "$lab/key"
  config.ssh.insert_key = false
  config.vm.boot_timeout = 900
  config.vm.provider("libvirt") do |vm|
    vm.driver = "qemu"
    vm.cpu_mode = "custom"
    vm.cpu_model = "Nehalem"
    vm.kernel = "$lab/$suite.vmlinuz"
    vm.initrd = "$lab/$suite.initrd"
    vm.cmd_line = "console=ttyS0 root=/dev/vda rw quiet mitigations=off net.ifnames=0"
    vm.graphics_type = "none"
  end
end
END
    echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 8}' >"$parts/metadata.json"
    qemu-img convert -O qcow2 "$lab/$suite.img" "$parts/box.img"
    tar -C "$parts" -cf "$run/minidock.box" metadata.json Vagrantfile box.img
    rm -r "$parts"
}

start_libvirt() {
    mkdir -p "$run/etc" "$run/var" /var/lib/libvirt
    cp -a /etc/libvirt/. "$run/etc"
    mount --bind "$run/etc" /etc/libvirt
    mount --bind "$run/var" /var/lib/libvirt
    mount -t tmpfs run /run
    mkdir -p /run/lock
    chmod 711 "$run" "$run/var"
    cat >/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
END
    printf 'listen_tls = 0\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n' >/etc/libvirt/libvirtd.conf
    libvirtd >"$run/libvirtd.log" 2>&1 &
    libvirt=$!
    until virsh --connect qemu:///system list >/dev/null 2>&1; do
        kill -0 $libvirt 2>/dev/null || { tail "$run/libvirtd.log" >&2; exit 125; }
        sleep 0.2
    done
}

end_all() {
    vagrant destroy --force >/dev/null 2>&1 || true
    virsh --connect qemu:///system net-destroy vagrant-libvirt >/dev/null 2>&1 || true
    kill "$libvirt" 2>/dev/null || true
    wait "$libvirt" || true
}

answer() { # the HTTP status of JupyterLab's page $1
    curl --silent --output /dev/null --max-time 300 --write-out '%{http_code}' "http://127.0.0.1:$MINIDOCK_PORT$1" || true
}

expect() { # $1 what, $2 got, $3 expected
    if [ "$2" = "$3" ]; then
        say "ok: $1"
    else
        say "FAILED: $1: got ${2:-nothing}, expected $3"
        code=1
    fi
}

inside() { # in namespaces of its own
    local url again
    code=0
    ip link set lo up
    start_libvirt
    trap end_all EXIT
    cd "$repository"
    vagrant box add --force --name minidock/test "$run/minidock.box" >/dev/null
    vagrant up --provider=libvirt | sed --unbuffered 's/.*\r//' | tee "$run/up.log"
    say "is up after $SECONDS s"
    url=$(sed -n 's/.*The course: \(http:.*\)/\1/p' "$run/up.log")
    expect "the URL ends the output" "${url%%\?*}" "http://127.0.0.1:$MINIDOCK_PORT/lab"
    expect "JupyterLab answers with the token" "$(answer "/lab?token=${url##*token=}")" 200
    expect "and refuses without" "$(answer /api/contents)" 403
    expect "it listens on the loopback of this side only" \
        "$(ss -Hltn "sport = :$MINIDOCK_PORT" | awk '{ print $4 }' | sort -u | tr '\n' ' ')" "127.0.0.1:$MINIDOCK_PORT "
    vagrant ssh --command 'sudo minidock run hello-world' | tee "$run/hello.log"
    expect "a container runs" "$(grep -c 'Hello from minidock!' "$run/hello.log")" 1
    vagrant ssh --command 'test -e /sys/fs/cgroup/cgroup.controllers && echo v2' >"$run/cgroup.log"
    expect "on cgroup v2" "$(tr -d '\r\n' <"$run/cgroup.log")" v2
    again=$(vagrant provision | sed -n 's/.*The course: \(http:.*\)/\1/p')
    expect "the second time gives the same URL" "$again" "$url"
    say "exit code $code after $SECONDS s"
    exit $code
}

export VAGRANT_HOME=$lab/vagrant VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_BOX_UPDATE_CHECK_DISABLE=1
export MINIDOCK_BOX=minidock/test MINIDOCK_PORT=${MINIDOCK_PORT:-8899}
if [ "${1:-}" = --inside ]; then
    run=$2
    export VAGRANT_DOTFILE_PATH=$run/dotfile
    inside
fi

missing=()
for package in vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients \
    dnsmasq-base iptables rsync curl; do
    dpkg-query --show "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >/dev/null
fi
"$here/image.sh" $suite
run=$(mktemp -d -p "$lab" vagrant.XXXXXX)
trap 'rm -rf --one-file-system "$run"' EXIT
say "making a box of it"
make_box
unshare --mount --net --pid --fork --mount-proc --kill-child --propagation private \
    "${BASH_SOURCE[0]}" --inside "$run"
