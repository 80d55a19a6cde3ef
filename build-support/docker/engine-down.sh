#!/usr/bin/env bash
# Stops the Docker engine that engine-up.sh started, and removes what it leaves in the network. Any other is left alone.
set -euo pipefail
work=${EAI_DOCKER_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/eai-docker}

pid=$(cat "$work/docker.pid" 2>/dev/null) || exit 0
if grep -qs dockerd "/proc/$pid/comm"; then
  docker ps -aq | xargs -r docker rm --force --volumes >/dev/null
  docker network prune --force >/dev/null
  docker volume prune --force >/dev/null
  kill "$pid"
  for _ in $(seq 80); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.25
  done
fi
rm -f "$work/docker.pid"

ip -o link show type bridge 2>/dev/null | awk -F': ' '{ print $2 }' | grep -E '^(docker0|br-[0-9a-f]{12})$' |
  while read -r bridge; do ip link del "$bridge"; done || true
for table in nat filter; do # only Docker's own rules and chains
  iptables -t $table -S | grep -E '^-A (PREROUTING|OUTPUT|POSTROUTING|FORWARD|DOCKER)' |
    grep -E 'DOCKER|docker0|br-[0-9a-f]{12}' | sed 's/^-A/-D/' |
    while read -r rule; do # shellcheck disable=SC2086  # a rule is several words
      iptables -t $table $rule
    done || true
  chains=$(iptables -t $table -S | awk '/^-N DOCKER/ { print $2 }')
  for chain in $chains; do iptables -t $table -F "$chain"; done
  for chain in $chains; do iptables -t $table -X "$chain"; done
done
iptables -P FORWARD ACCEPT
mount | awk -v work="$work/" 'index($3, work) == 1 { print $3 }' | while read -r mounted; do umount "$mounted"; done
