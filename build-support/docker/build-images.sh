#!/usr/bin/env bash
# Packages every service and the sandbox, and builds their images. Usage: build-images.sh [SERVICE...]
# EAI_VERSION is their tag (development), IMAGE_PREFIX what stands before their names, such as registry.example/city/.
# EAI_PACKAGED=true: dist/ already holds the PEX files.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} # the builder that every engine has

services=("$@")
[ ${#services[@]} -gt 0 ] || mapfile -t services < <(ls -d services/*/ | xargs -n 1 basename && echo sandbox)
version=${EAI_VERSION:-development}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

if [ "${EAI_PACKAGED:-}" != true ]; then
  ./pants package services:: tools/sandbox::
fi

build() {
  local began=$SECONDS image=${IMAGE_PREFIX:-}eai-$1:$version log
  log=$(docker build --quiet --file deploy/docker/Dockerfile --tag "$image" --build-arg "SERVICE=$1" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg "PYTHON_IMAGE=${PYTHON_IMAGE:-python:3.11-slim-bookworm}" . 2>&1) ||
    { printf '%s: not built\n%s\n' "$image" "$log" >&2; return 1; }
  printf '%-32s built in %3d s\n' "$image" $((SECONDS - began))
}

export -f build
export version revision
printf '%s\n' "${services[@]}" | xargs -P 2 -I{} bash -c 'build "$1"' _ {}
