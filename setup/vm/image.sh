#!/usr/bin/env bash
# image.sh [SUITE]: makes a systemd machine of Debian packages (bookworm, trixie) for `make vm-test`: a disk image, its
# kernel and its initrd, in $MINIDOCK_VM. What `make setup` would install is in it already, for software emulation is
# 25 times too slow for apt and pip. Done again only when something that decides its content has changed.
# The image holds a private key and this machine's certificates: never publish it.
set -euo pipefail

suite=${1:-bookworm}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
lab=${MINIDOCK_VM:-/var/cache/minidock-vm}
registry=${MINIDOCK_REGISTRY_HOME:-/var/lib/minidock-registry}
guest=/minidock # where the repository stands in the guest

[ "$(dpkg --print-architecture)" = amd64 ] || { echo "vm: the test machine is made for amd64 only" >&2; exit 1; }
mkdir -p "$lab"
exec 9>"$lab/lock"
flock 9

recipe=$(cat "${BASH_SOURCE[0]}" "$here/customize.sh" "$repository/setup/provision.sh" "$repository/setup/images.py" \
    <(find "$repository/setup/httpd" -type f -exec cat {} +) "$repository/requirements.txt" <(echo "$suite $guest") |
    sha256sum | cut -c1-16)
if [ "$(cat "$lab/$suite.recipe" 2>/dev/null)" = "$recipe" ] && [ -s "$lab/$suite.img" ]; then
    echo "vm: $lab/$suite.img is up to date"
    exit 0
fi

missing=()
for package in mmdebstrap qemu-system-x86 qemu-utils seabios e2fsprogs openssh-client; do
    dpkg-query --show "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "vm: installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >/dev/null
fi

began=$SECONDS
echo "vm: making $lab/$suite.img from Debian packages (two minutes)"
[ -f "$lab/key" ] || ssh-keygen -q -t ed25519 -N '' -C minidock-vm -f "$lab/key"
# shellcheck disable=SC2016 # $(SITE) is apt-get's
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
tree=$lab/$suite.tree
rm -rf --one-file-system "$tree"
export repository registry guest lab
mmdebstrap --mode=root --variant=apt --quiet \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --include=systemd-sysv,dbus,udev,linux-image-cloud-amd64,initramfs-tools,openssh-server,sudo,rsync,make,git,less \
    --customize-hook="$here/customize.sh \"\$1\"" \
    "$suite" "$tree" "${mirror:-http://deb.debian.org/debian}" >"$lab/$suite.log" 2>&1 ||
    { tail -n 30 "$lab/$suite.log" >&2; exit 1; }

cp "$tree"/boot/vmlinuz-* "$lab/$suite.vmlinuz"
cp "$tree"/boot/initrd.img-* "$lab/$suite.initrd"
rm -f "$lab/$suite.img.new"
mke2fs -q -t ext4 -d "$tree" "$lab/$suite.img.new" 8G
mv "$lab/$suite.img.new" "$lab/$suite.img"
rm -rf --one-file-system "$tree"
echo "$recipe" >"$lab/$suite.recipe"
echo "vm: made in $((SECONDS - began)) s, $(du -h "$lab/$suite.img" | cut -f1) on disk"
