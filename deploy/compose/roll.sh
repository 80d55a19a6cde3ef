#!/usr/bin/env bash
# Replaces every replica of the stages without losing a request: starts as many new ones, waits until they are healthy,
# then stops the old ones, each of which finishes what it has. Usage, where `docker compose` would be run: roll.sh [STAGE...]
# New images are taken if there are any; a changed setting too.
set -euo pipefail

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(formatter agent-router transcriber poller ingress) # who consumes before who emits

for stage in "${stages[@]}"; do
  mapfile -t old < <(docker compose ps --quiet "$stage")
  docker compose up --detach --wait --no-deps --no-recreate --scale "$stage=$((2 * ${#old[@]}))" "$stage"
  docker stop --time 40 "${old[@]}" >/dev/null
  docker rm "${old[@]}" >/dev/null
  printf '%s: %d replaced\n' "$stage" "${#old[@]}"
done
