#!/usr/bin/env bash
# Rewrites the hashed lock files: what ./eai installs, what Pants resolves, and the tools of both.
# They hold names, versions and hashes only, never the address of an index, so they work behind any mirror.
# Usage: build-support/lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.pants-tools/uv/bin/uv
if [ ! -x "$uv" ]; then
  python3.11 -m venv .pants-tools/uv
  .pants-tools/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
fi
compile() {
  "$uv" pip compile --quiet --universal --python-version "${python:-3.11}" --generate-hashes --no-annotate \
    --no-header --no-emit-index-url --no-emit-find-links "$@"
}
compile 3rdparty/python/requirements.txt -o 3rdparty/python/default.lock "$@"
compile 3rdparty/python/uv.in -o 3rdparty/python/uv.lock "$@"
python=3.8 compile 3rdparty/python/pants.in -o 3rdparty/python/pants.lock "$@" # Pants runs on 3.8 and 3.9, not on 3.11
for in in 3rdparty/python/tools/*.in; do # a tool that shares a package with the services shares its version
  compile "$in" -c 3rdparty/python/default.lock -o "${in%.in}.lock" "$@"
done
if grep -nE '://|--(extra-)?index-url|--find-links' 3rdparty/python/*.lock 3rdparty/python/tools/*.lock; then
  echo "lock.sh: a lock file names an address, see above; do not commit it" >&2
  exit 1
fi
