#!/usr/bin/env bash
# A Docker engine with compose: the one that is there, else one of our own (root on Debian), without any image registry.
# Usage: engine-up.sh. What it starts, engine-down.sh stops; data stay in EAI_DOCKER_DIR, so the next start is quick.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${EAI_DOCKER_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/eai-docker}
export DEBIAN_FRONTEND=noninteractive

say() { printf 'engine-up: %4d s  %s\n' "$SECONDS" "$*" >&2; }
fail() { printf 'engine-up: %s\n' "$*" >&2; exit 3; }
runs() { docker info >/dev/null 2>&1; }
has_compose() { docker compose version >/dev/null 2>&1; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install_packages() { # Debian installs them without starting a daemon where there is no service manager
  say "installing $*"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@" >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; return 1; }
}

# Debian 12 has no compose v2; the next release's plugin needs nothing but its C library.
install_compose() {
  local mirror apt=$work/trixie
  mirror=$("$here/debian-mirror.sh")
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/trixie.list"
  local options=(-o Dir::Etc::sourcelist="$apt/trixie.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
    -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
  say "installing the compose plugin"
  apt-get "${options[@]}" update -qq
  (cd "$apt" && apt-get "${options[@]}" download -qq docker-compose/trixie && dpkg -i docker-compose_2*.deb >dpkg.log)
}

# Without NAT to the outside: containers reach each other and published ports, which is all that the tests need.
start_engine() {
  say "starting dockerd"
  mkdir -p "$work/data" "$work/exec"
  setsid nohup dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/docker.pid" \
    --ip-masq=false --log-level=warn >"$work/dockerd.log" 2>&1 </dev/null &
  local tries
  for tries in $(seq 120); do
    if runs; then return; fi
    sleep 0.5
  done
  tail -n 20 "$work/dockerd.log" >&2
  fail "dockerd did not answer"
}

if ! runs || ! has_compose; then
  can_install || fail "needs a running Docker engine and its compose plugin; install and start them, then try again"
  mkdir -p "$work"
  command -v dockerd >/dev/null || install_packages docker.io
  has_compose || install_compose
  runs || start_engine
fi
say "engine $(docker version -f '{{.Server.Version}}'), compose $(docker compose version --short)"
"$here/base-images.sh"
say "ready"
