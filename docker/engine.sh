#!/bin/sh
# engine.sh start|stop FOLDER: a Docker engine, compose and the base image for `make docker-test`, on a machine without them.
# The engine lives in a network namespace of its own: bridges, rules and packets never touch the machine's network.
# Prints what the caller needs, as lines NAME=VALUE.  Exit code 2 says what is missing.
set -eu
action=$1
work=$2
space=fedmidline-docker
image=python:3.11-slim-bookworm

say() { printf '%s\n' "fedmidline: $*" >&2; }
fail() { say "$*"; exit 2; }

stop() {
  end "$work/docker.pid" dockerd
  end "/run/$space/containerd/containerd.pid" containerd
  # An engine that was killed leaves its sockets behind, at which the next one would wait for ever.
  rm -rf "/run/$space" 2>/dev/null || true
  ip netns del "$space" 2>/dev/null || true
}

# end FILE NAME: the process of this number, if it still has this name.
end() {
  number=$(cat "$1" 2>/dev/null) || return 0
  while [ "$(cat "/proc/$number/comm" 2>/dev/null)" = "$2" ]; do
    kill -TERM "$number" 2>/dev/null || true
    sleep 0.5
  done
}

start_engine() {
  [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and only root can start one (tried: docker info)."
  for program in dockerd nsenter ip iptables docker-init; do
    command -v "$program" >/dev/null 2>&1 || fail "$program is missing; Debian: apt-get install docker.io iptables iproute2 tini mmdebstrap"
  done
  stop
  mkdir -p "$work"
  ip netns add "$space"
  ip -n "$space" link set lo up
  # Names are asked of a documentation address, where the test puts its outside world.
  # Not `ip netns exec`: it mounts /sys anew and loses the control groups.
  setsid nsenter --net="/run/netns/$space" dockerd --data-root "$work/data-root" --exec-root "/run/$space" \
    --host "unix://$work/docker.sock" --pidfile "$work/docker.pid" --storage-driver=overlay2 \
    --cgroup-parent "/$space" --dns 198.51.100.2 >"$work/dockerd.log" 2>&1 </dev/null &
  export DOCKER_HOST="unix://$work/docker.sock"
  for _ in $(seq 60); do
    timeout 10 docker info >/dev/null 2>&1 && return
    sleep 0.5
  done
  tail -5 "$work/dockerd.log" >&2
  fail "dockerd does not start; its log is $work/dockerd.log"
}

# Debian's bookworm has a compose that is too old; the next release's package needs nothing that bookworm lacks.
# It is read from this machine's own mirror, into a folder of its own: the machine's package lists stay as they are.
fetch_compose() {
  command -v apt-get >/dev/null 2>&1 || fail "the plugin docker compose is missing; install it."
  lists="$work/apt"
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial" "$DOCKER_CONFIG/cli-plugins"
  mirror > "$lists/mirror"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "$(cat "$lists/mirror")" > "$lists/sources.list"
  options="-o Dir::Etc::sourcelist=$lists/sources.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$lists/lists -o Dir::Cache=$lists/cache"
  # shellcheck disable=SC2086  # several words on purpose
  apt-get $options -qq update >/dev/null 2>"$lists/log" || fail "apt cannot read the release with docker compose: $(tail -1 "$lists/log")"
  # shellcheck disable=SC2086
  (cd "$lists" && apt-get $options -qq download docker-compose) >/dev/null 2>"$lists/log" || fail "docker compose cannot be downloaded: $(tail -1 "$lists/log")"
  dpkg -x "$lists"/docker-compose_*.deb "$lists/tree"
  install -m 0755 "$lists/tree/usr/libexec/docker/cli-plugins/docker-compose" "$DOCKER_CONFIG/cli-plugins/"
}

mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -nE 's/^deb (\[[^]]*\] )?([a-z+]+:[^ ]*debian)\/? .*/\2/p; s/^URIs: *([^ ]*debian)\/? *$/\1/p' | grep -v security | head -1
}

base_image() {
  docker image inspect "$image" >/dev/null 2>&1 && return
  timeout 60 docker pull -q "$image" >/dev/null 2>&1 && return
  say "no registry can be reached: the base image is made from Debian's packages (about two minutes)"
  command -v mmdebstrap >/dev/null 2>&1 || fail "mmdebstrap is missing; Debian: apt-get install mmdebstrap"
  # shellcheck disable=SC2016  # the "$1" is mmdebstrap's
  # A virtual environment at /usr/local stands in for the official image's own Python.
  nice -n 19 mmdebstrap --quiet --variant=minbase --include=python3-minimal,python3-venv,ca-certificates \
    --customize-hook='chroot "$1" python3 -m venv /usr/local' \
    --customize-hook='rm -f "$1/etc/apt/sources.list"' bookworm "$work/base.tar" "$(mirror)" >&2
  docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' "$work/base.tar" "$image" >/dev/null
  rm -f "$work/base.tar"
}

# With a data root that is not absolute dockerd turns in circles for ever.
mkdir -p "$work"
work=$(cd "$work" && pwd)
case "$action" in
  stop) stop ;;
  start)
    export DOCKER_CONFIG="${DOCKER_CONFIG:-$work/config}"
    command -v docker >/dev/null 2>&1 || [ "$(id -u)" = 0 ] || fail "docker is missing."
    owned=0
    if ! docker info >/dev/null 2>&1; then
      if DOCKER_HOST="unix://$work/docker.sock" docker info >/dev/null 2>&1; then
        export DOCKER_HOST="unix://$work/docker.sock"
      else
        start_engine
      fi
      owned=1
    fi
    docker compose version >/dev/null 2>&1 || fetch_compose
    docker compose version >/dev/null 2>&1 || fail "docker compose does not run."
    base_image
    printf 'DOCKER_CONFIG=%s\nOWNED=%s\n' "$DOCKER_CONFIG" "$owned"
    [ -z "${DOCKER_HOST:-}" ] || printf 'DOCKER_HOST=%s\n' "$DOCKER_HOST"
    [ "$owned" = 0 ] || printf 'NAMESPACE=%s\n' "$space"
    ;;
  *) fail "engine.sh start|stop FOLDER" ;;
esac
