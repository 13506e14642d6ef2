#!/usr/bin/env bash
# Opens the course in JupyterLab: on loopback, with a token, on port 8888 or the next free one.
#   MINIDOCK_LAB_ADDRESS (127.0.0.1) and MINIDOCK_LAB_PORT (8888) change where it listens; in a VM, whose port is
#   forwarded from the laptop's loopback, the address has to be 0.0.0.0.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${MINIDOCK_VENV:-$repository/.venv}
start=/lab
[ ! -e "$repository/notebooks/00_start_here.ipynb" ] || start=/lab/tree/notebooks/00_start_here.ipynb

# Lessons and Jupyter's terminals say `minidock` and mean this one.
export PATH=$venv/bin:$PATH
cd "$repository"
# The student's files are in ~/mydock; the file browser shows what lies below the repository.
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
ln -sfn "$home/mydock" mydock
# The course needs no network: JupyterLab shall not offer to fetch its news (it asks whatever news_url says).
mkdir -p "$venv/share/jupyter/lab/settings"
echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
    >"$venv/share/jupyter/lab/settings/overrides.json"
# Pictures in notebooks that nobody has signed are not shown: these came with the course.
"$venv/bin/jupyter" trust notebooks/*.ipynb labs/*/lab.ipynb >/dev/null
exec "$venv/bin/jupyter" lab --allow-root --no-browser --log-level=WARN \
    --ServerApp.ip="${MINIDOCK_LAB_ADDRESS:-127.0.0.1}" \
    --ServerApp.port="${MINIDOCK_LAB_PORT:-8888}" --ServerApp.port_retries=50 \
    --ServerApp.root_dir="$repository" --LabApp.default_url="$start" \
    --LabApp.extension_manager=readonly
