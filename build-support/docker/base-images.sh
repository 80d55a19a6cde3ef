#!/usr/bin/env bash
# The images that deploy/ builds on and runs: pulled; where no registry answers, stand-ins made of Debian's packages
# under the same tags (root on Debian). The stand-ins are not the official images: what is run on them is proven on them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${EAI_DOCKER_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/eai-docker}
base=eai-stand-in/debian:bookworm
declare -A images=([python]=python:3.11-slim-bookworm [rabbitmq]=rabbitmq:3-management [redis]=redis:7-alpine [nginx]=nginx:stable-alpine)
export DOCKER_BUILDKIT=0 # the builder that every engine has

say() { printf 'base-images: %4d s  %s\n' "$SECONDS" "$*" >&2; }
is_here() { docker image inspect "$1" >/dev/null 2>&1; }

pull() {
  timeout "${EAI_PULL_TIMEOUT:-300}" docker pull --quiet "$1" >/dev/null 2>&1
}

build_base() {
  if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null 2>&1
  fi
  local mirror rootfs=$work/rootfs
  mirror=$("$here/debian-mirror.sh")
  mkdir -p "$work"
  rm -rf "$rootfs"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$rootfs" "$mirror" >"$work/debootstrap.log" 2>&1
  tar -C "$rootfs" -c --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' . | docker import - "$base" >/dev/null
  rm -rf "$rootfs"
}

build_stand_in() {
  local log=$work/stand-in-$1.log
  docker build --quiet --network host --build-arg "BASE=$base" --tag "${images[$1]}" "$here/stand-ins/$1" >"$log" 2>&1 ||
    { cat "$log" >&2; return 1; }
}

missing=()
for name in "${!images[@]}"; do
  is_here "${images[$name]}" || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if pull "${images[${missing[0]}]}"; then
  for name in "${missing[@]:1}"; do docker pull --quiet "${images[$name]}"; done
  exit 0
fi
say "no registry answers: making stand-ins of ${missing[*]} from Debian's packages"
is_here "$base" || build_base
say "base file system"
building=()
for name in "${missing[@]}"; do
  build_stand_in "$name" &
  building+=($!)
done
for one in "${building[@]}"; do wait "$one"; done
say "stand-ins"
