#!/usr/bin/env bash
# A real Docker engine of the tests' own: its data, socket and containers lie in one folder and touch no
# other engine. Several test processes share it; it ends when the last of them is gone.
#
#   docker.sh start [PID]      starts it or joins the one that runs, on behalf of PID (default: the caller);
#                              prints DOCKER_HOST=unix://...
#   docker.sh stop [PID]       takes PID off; the last one off ends the engine and removes its folder
#   docker.sh base-image       prints the name of a small image with python3, made on the first call
#
# Needs root and, from Debian, docker.io; base-image needs debootstrap as well. Exit 3 = it cannot run here,
# with the reason on stderr. LAUNCHER_ENGINE_DIR moves the folder. Knows nothing of the launcher.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=${LAUNCHER_ENGINE_DIR:-${TMPDIR:-/tmp}/launcher-engine-$(id -u)}
[ ${#dir} -lt 90 ] || dir=/tmp/launcher-engine-$(id -u) # a socket's name may not be longer than 107 bytes
socket=$dir/docker.sock
theirs=${DOCKER_HOST:-} # base-image works on the engine it is pointed at
export DOCKER_HOST=unix://$socket

say() { echo "docker.sh: $*" >&2; }
cannot() { say "$*"; exit 3; }
alive() { [ -s "$dir/engine.pid" ] && kill -0 "$(cat "$dir/engine.pid")" 2>/dev/null; }
answers() { alive && timeout 5 docker version >/dev/null 2>&1; }
answers_at_last() { # one that lives is slow on a busy machine, and others use it: it is given a minute
    local _
    for _ in $(seq 12); do
        answers && return 0
        alive || return 1
        sleep 1
    done
    return 1
}

# A bridge and packet rules of our own, named after the folder: an engine that manages docker0 and its rules
# flushes those of another one, and one without a bridge even removes docker0.
mark=$(printf %s "$dir" | cksum | cut -d' ' -f1)
bridge=launcher-$((mark % 9973))
net=10.$((200 + mark % 50)).$((mark / 64 % 250))

rules() { # -I makes them, -D takes them away; fails when the last one does
    iptables -w "$1" FORWARD -i "$bridge" -j ACCEPT
    iptables -w "$1" FORWARD -o "$bridge" -j ACCEPT
    iptables -w -t nat "$1" POSTROUTING -s "$net.0/24" ! -o "$bridge" -j MASQUERADE
} 2>/dev/null

make_bridge() {
    ip link show "$bridge" >/dev/null 2>&1 || ip link add "$bridge" type bridge || return 1
    ip addr replace "$net.1/24" dev "$bridge" && ip link set "$bridge" up || return 1
    echo 1 >/proc/sys/net/ipv4/ip_forward || return 1
    while rules -D; do :; done
    rules -I || say "no packet rules could be made: containers reach no network"
}

remove_bridge() {
    while rules -D; do :; done
    ip link del "$bridge" 2>/dev/null || :
}

other_engine() { [ -S /var/run/docker.sock ] || ip link show docker0 >/dev/null 2>&1; }

try_start() { # DRIVER NETWORK -> 0 when the engine answers
    local driver=$1 network=$2 how=(--iptables=false --ip6tables=false) _
    case $network in
        own) make_bridge 2>>"$dir/log" || return 1; how+=(--bridge="$bridge" --ip-masq=false) ;;
        docker0) other_engine && return 1; how=() ;;
        none) other_engine && return 1; how+=(--bridge=none) ;;
    esac
    setsid dockerd --host "$DOCKER_HOST" --data-root "$dir/data" --exec-root "$dir/exec" \
        --pidfile "$dir/dockerd.pid" --storage-driver "$driver" --group root --shutdown-timeout 2 \
        --containerd-namespace launcher-test --containerd-plugins-namespace launcher-test-plugins \
        --log-level warn ${how[@]+"${how[@]}"} >>"$dir/log" 2>&1 9>&- </dev/null &
    echo $! >"$dir/engine.pid"
    for _ in $(seq 150); do # 30 s
        answers && { echo "$driver $network" >"$dir/how"; return 0; }
        alive || return 1
        sleep 0.2
    done
    end_engine
    return 1
}

end_engine() {
    local pid _
    pid=$(cat "$dir/engine.pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || :
    for _ in $(seq 100); do # 20 s
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    kill -9 "$pid" 2>/dev/null || :
    rm -f "$dir/engine.pid"
}

remove_folder() {
    local mounted
    # Deepest first; only what is mounted below our own folder.
    awk -v d="$dir/" 'index($2, d) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mounted; do
        umount "$mounted" 2>/dev/null || umount -l "$mounted" 2>/dev/null || :
    done
    remove_bridge
    rm -rf --one-file-system "$dir"
}

prune_users() { # those that died without saying good-bye
    local user
    for user in "$dir"/users/*; do
        [ -e "$user" ] && ! kill -0 "${user##*/}" 2>/dev/null && rm -f "$user"
    done
    return 0
}

unused() { prune_users; [ -z "$(ls -A "$dir/users" 2>/dev/null)" ]; }

watch() { # a process of its own: a killed test run must not leave an engine behind
    while sleep 3; do
        exec 9>"$dir.lock"
        flock 9
        alive || exit 0
        if unused; then end_engine; remove_folder; exit 0; fi
        flock -u 9
    done
}

start() {
    local driver network
    [ "$(id -u)" = 0 ] || cannot "an engine of our own needs root"
    command -v dockerd >/dev/null || cannot "dockerd is not here (apt-get install docker.io)"
    command -v docker >/dev/null || cannot "the docker command is not here (apt-get install docker.io)"
    exec 9>"$dir.lock"
    flock -w 150 9 || cannot "another start is under way for too long"
    if ! answers_at_last; then
        end_engine
        rm -rf --one-file-system "$dir/data" "$dir/exec"
        mkdir -p "$dir" && chmod 700 "$dir"
        mkdir -p "$dir/users" "$dir/data" "$dir/exec"
        : >"$dir/log"
        for driver in overlay2 vfs; do
            for network in own docker0 none; do
                try_start "$driver" "$network" && break 2
            done
        done
        if ! answers; then
            say "the engine does not start; its last lines:"
            tail -n 8 "$dir/log" >&2
            end_engine
            remove_folder
            exit 3
        fi
        : >"$dir/users/$1"
        setsid "$0" watch >/dev/null 2>&1 9>&- </dev/null &
    fi
    : >"$dir/users/$1"
    echo "DOCKER_HOST=$DOCKER_HOST"
}

stop() {
    exec 9>"$dir.lock"
    flock -w 60 9
    rm -f "$dir/users/$1"
    if unused; then end_engine; remove_folder; fi
}

case ${1:-} in
    start) start "${2:-$PPID}" ;;
    stop) stop "${2:-$PPID}" ;;
    watch) watch ;;
    base-image) DOCKER_HOST=${theirs:-$DOCKER_HOST} exec "$here/base_image.sh" ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
