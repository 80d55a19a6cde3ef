#!/usr/bin/env bash
# Prints the address that this machine gets Debian's packages from, in either form of apt's lists; fails without one.
set -euo pipefail
shopt -s nullglob
lists=(/etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list)
mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' \
  "${lists[@]}" 2>/dev/null || true)
[ -n "$mirror" ] || { echo "debian-mirror: no address of Debian's packages in /etc/apt" >&2; exit 3; }
printf '%s\n' "$mirror"
