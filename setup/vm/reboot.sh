#!/usr/bin/env bash
# reboot.sh: run by test.sh in the test machine, once in each of three boots. Containers with every restart policy live
# through a reboot by systemd, then through a power cut. What comes back, and what `ps` says of the others, is what
# dockerd 20.10 and 26.1 did with the same containers.
set -euo pipefail

notes=/var/lib/minidock-reboot # which boot this is
code=0

say() { echo "reboot: $*"; }
expect() { # $1 what, $2 got, $3 expected
    if [ "$2" = "$3" ]; then
        say "ok: $1"
    else
        say "FAILED: $1"
        diff --label expected --label got -u <(echo "$3") <(echo "$2") || true
        code=1
    fi
}
run() { # NAME [OPTION…] COMMAND…: a detached busybox
    local options=()
    while [[ $2 == -* ]]; do
        options+=("$2" "$3")
        set -- "$1" "${@:4}"
    done
    minidock run -d --name "$1" "${options[@]}" busybox "${@:2}" >/dev/null
}

first() {
    local saves='trap "echo saved >/data/saved; exit 7" TERM; touch /ready; while :; do sleep 1 & wait $!; done'
    minidock network create lan >/dev/null
    minidock volume create data >/dev/null
    minidock run --rm -v data:/data busybox sh -c 'echo hello >/data/index.html'
    for policy in no always unless-stopped on-failure; do
        run "$policy" --restart "$policy" sleep 1000000
    done
    for policy in always unless-stopped on-failure; do
        run "$policy.stopped" --restart "$policy" sleep 1000000
        minidock stop -t 0 "$policy.stopped" >/dev/null
    done
    run frozen --restart always sleep 1000000
    minidock pause frozen >/dev/null
    run web --restart always --network lan -p 8080:80 -v data:/data httpd -f -p 80 -h /data
    run visitor --restart always --network lan sleep 1000000
    run saves -v data:/data sh -c "$saves"
    until minidock exec saves test -e /ready; do sleep 1; done
    minidock run -d --rm --name removed busybox sleep 1000000 >/dev/null
    minidock create --name never --restart always busybox sleep 1000000 >/dev/null
    works
}

works() { # the service, as neighbours, this machine and the registry's users see it
    expect "the service answers by its name" "$(minidock exec visitor wget -qO- http://web/index.html)" hello
    expect "it answers on its port" "$(curl --silent --max-time 300 http://127.0.0.1:8080/)" hello
    expect "doctor finds nothing that was left" "$(minidock doctor | tee /dev/stderr | tail -n 1 | awk '{ print $NF }')" nothing
    ! minidock images -q hello-world | grep -q . || minidock rmi hello-world >/dev/null
    expect "an image comes from the registry" "$(minidock run --rm hello-world | grep -c 'Hello from minidock!')" 1
}

booted() { # $1: what `ps` is to say
    local state='' limit=$((SECONDS + 600))
    until [ "$state" = active ] || [ "$state" = failed ] || [ $SECONDS -gt $limit ]; do
        sleep 1
        state=$(systemctl is-active minidock-resume.service || true)
    done
    expect "the service that resumes is done" "$state" active
    journalctl --quiet --boot --unit minidock-resume.service --output cat
    expect "containers are what Docker would make of them" "$(minidock ps -a --format '{{.Names}}: {{.State}} {{.Status}}' |
        sed -E 's/(Up|Created|Exited \([0-9]+\)).*/\1/' | sort)" "$(sort <<<"$1")"
    works
}

second() {
    booted "no: exited Exited (137)
always: running Up
unless-stopped: running Up
on-failure: running Up
always.stopped: running Up
unless-stopped.stopped: exited Exited (137)
on-failure.stopped: running Up
frozen: running Up
web: running Up
visitor: running Up
saves: exited Exited (7)
never: created Created"
    expect "a program could save before the machine went down" \
        "$(minidock run --rm -v data:/data busybox cat /data/saved)" saved
}

third() {
    booted "no: exited Exited (255)
always: running Up
unless-stopped: exited Exited (137)
on-failure: running Up
always.stopped: running Up
unless-stopped.stopped: exited Exited (137)
on-failure.stopped: running Up
frozen: running Up
web: running Up
visitor: running Up
saves: exited Exited (255)
never: created Created
late: running Up"
    expect "nothing is left after reset" "$(minidock reset --yes >/dev/null && minidock doctor | tail -n 1 | awk '{ print $NF }')" nothing
}

case $(cat $notes 2>/dev/null || true) in
'')
    setup/provision.sh
    first
    echo rebooted >$notes
    [ $code = 0 ] || exit $code
    say "systemctl reboot, $(awk '{ print $1 }' /proc/uptime) s after the boot"
    systemctl reboot
    sleep infinity
    ;;
rebooted)
    second
    [ $code = 0 ] || exit $code
    minidock start no saves >/dev/null
    minidock pause frozen >/dev/null
    echo cut >$notes
    say "power cut, $(awk '{ print $1 }' /proc/uptime) s after the boot"
    sync
    # What was acknowledged last must be there, too: nothing is synced any more but by minidock.
    minidock stop -t 0 unless-stopped >/dev/null
    run late --restart always sleep 1000000
    echo b >/proc/sysrq-trigger
    sleep infinity
    ;;
cut)
    third
    say "exit code $code, $(awk '{ print $1 }' /proc/uptime) s after the boot"
    exit $code
    ;;
esac
