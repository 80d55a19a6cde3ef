#!/usr/bin/env bash
# Fails when building and testing left something behind that git neither tracks nor ignores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
left=$(git status --porcelain)
if [ -n "$left" ]; then
  printf 'left behind:\n%s\n' "$left" >&2
  exit 1
fi
