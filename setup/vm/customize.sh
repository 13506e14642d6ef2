#!/usr/bin/env bash
# customize.sh TREE: run by image.sh inside mmdebstrap, while the new machine's files stand in TREE.
set -euo pipefail
tree=$1
: "${repository:?}" "${registry:?}" "${guest:?}" "${lab:?}" # from image.sh

# A name, a network by DHCP, no password, one key.
echo minidock >"$tree/etc/hostname"
echo '127.0.0.1 localhost minidock' >"$tree/etc/hosts"
echo '/dev/vda / ext4 noatime 0 1' >"$tree/etc/fstab"
printf '[Match]\nName=eth* en*\n[Network]\nDHCP=ipv4\n' >"$tree/etc/systemd/network/80-dhcp.network"
chroot "$tree" systemctl --quiet enable systemd-networkd ssh
chroot "$tree" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service \
    dpkg-db-backup.timer fstrim.timer e2scrub_reap.service
install -d -m 700 "$tree/root/.ssh"
install -m 600 "$lab/key.pub" "$tree/root/.ssh/authorized_keys"
echo 'UseDNS no' >"$tree/etc/ssh/sshd_config.d/minidock.conf"

# What every Vagrant box has (`make vagrant-test`): its user, who may become root.
chroot "$tree" useradd --create-home --shell /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/vagrant"
install -d -m 700 -o "$(chroot "$tree" id -u vagrant)" -g "$(chroot "$tree" id -g vagrant)" "$tree/home/vagrant/.ssh"
install -m 644 "$lab/key.pub" "$tree/home/vagrant/.ssh/authorized_keys"

# An initrd with the three modules that this machine boots from: emulation unpacks it in a second.
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$tree/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$tree/etc/initramfs-tools/modules"
chroot "$tree" update-initramfs -u

# The same provisioning as everywhere, with this machine's way to the package index.
mkdir -p "$tree$guest"
tar -C "$repository" --exclude=.git --exclude=.venv -c . | tar -C "$tree$guest" -x --no-same-owner
chroot "$tree" "$guest/setup/provision.sh" packages
for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do # after the packages, one of which writes the second
    [ ! -e $file ] || cp $file "$tree$file"
done
chroot "$tree" "$guest/setup/provision.sh" python command

# The registry's content is copied: making the images again would take a quarter of an hour in there.
mkdir -p "$tree/var/lib/minidock-registry"
cp -r "$registry/data" "$tree/var/lib/minidock-registry/"
chroot "$tree" python3 -B "$guest/setup/images.py" recipe >"$tree/var/lib/minidock-registry/seeded"
