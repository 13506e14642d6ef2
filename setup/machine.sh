#!/usr/bin/env bash
# machine.sh: makes the machine of the Vagrantfile the course's: the same set-up as everywhere, and JupyterLab as a
# service. `vagrant up` runs it, and may run it again.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$repository/setup/provision.sh"

# The token is made once: a bookmark stays good.
token_file=/etc/minidock/lab-token
[ -s $token_file ] || (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >$token_file)

# The laptop's port is forwarded to the machine's outer address, so JupyterLab cannot stay on loopback in here; the
# Vagrantfile binds the laptop's end to 127.0.0.1.
cat >/etc/systemd/system/minidock-lab.service <<END
[Unit]
Description=JupyterLab with the minidock course
After=network.target minidock-registry.service

[Service]
Environment=MINIDOCK_LAB_ADDRESS=0.0.0.0 MINIDOCK_LAB_PORT=8888
ExecStart=/bin/sh -c 'JUPYTER_TOKEN=\$(cat $token_file) exec $repository/setup/lab.sh'
Restart=on-failure

[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl --quiet enable minidock-lab.service
systemctl restart minidock-lab.service
for _ in $(seq 600); do
    (exec 3<>/dev/tcp/127.0.0.1/8888) 2>/dev/null && break
    sleep 0.5
done || true
echo
echo "The course: http://127.0.0.1:${MINIDOCK_PORT:-8888}/lab?token=$(cat $token_file)"
