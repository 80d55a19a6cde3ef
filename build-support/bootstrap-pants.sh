#!/usr/bin/env bash
# Installs what ./pants needs and the machine lacks, below .pants-tools, once: Pants and the Pex command from a hashed
# lock, and a CPython 3.9 to run Pants and 3.11 for the code where there is none. Only a package index has to be within
# reach; the official launcher would need GitHub. What depends on the machine goes into the untracked .pants.rc.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.pants-tools
venv=$tools/pants
lock=$root/3rdparty/python/pants.lock

say() { printf 'bootstrap-pants: %s\n' "$*" >&2; }

is_python() { # is_python PROGRAM MINOR...: a working CPython 3 of one of these minor versions
  local program=$1
  shift
  "$program" -c 'import sys, venv; sys.exit(str(sys.version_info[1]) not in sys.argv[1:])' "$@" >/dev/null 2>&1
}

find_python() { # find_python MINOR...: the first that works, by the order of the versions
  local minor candidate
  for minor in "$@"; do
    for candidate in "python3.$minor" "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3."$minor".*/bin/python3; do
      if is_python "$candidate" "$minor"; then
        command -v "$candidate"
        return
      fi
    done
  done
  return 1
}

fetch_python() { # fetch_python VERSION: a standalone build that nobody has to install
  local uv=$tools/uv/bin/uv
  say "no CPython $1 found, fetching one"
  if [ ! -x "$uv" ]; then
    python3 -m venv "$tools/uv"
    "$tools/uv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/3rdparty/python/uv.lock"
  fi
  export UV_PYTHON_INSTALL_DIR=$tools/python
  if ! "$uv" python install --quiet "$1" >&2; then
    say "cannot fetch it either; install CPython $1 so that python$1 is on PATH, then try again"
    return 1
  fi
  "$uv" python find --managed-python "$1"
}

install_pants() {
  local python
  python=$(find_python 9 8) || python=$(fetch_python 3.9)
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$lock"
}

# Pants would download this from GitHub. The lock names the version that this Pants is made for.
build_pex() {
  awk '/^pex==/ { inside = 1 } inside { print } inside && !/\\$/ { exit }' "$lock" >"$tools/pex.txt"
  PEX_ROOT=$tools/pex-root "$venv/bin/pex" -r "$tools/pex.txt" --console-script pex --output-file "$tools/pex"
  rm -rf "$tools/pex-root" "$tools/pex.txt"
}

known_pex() { # VERSION|PLATFORM|SHA256|SIZE, as [pex-cli].known_versions takes it
  "$venv/bin/python" - "$tools/pex" <<'PYTHON'
import hashlib, sys
from pathlib import Path
from pants.backend.python.util_rules.pex_cli import PexCli
from pants.engine.platform import Platform

content = Path(sys.argv[1]).read_bytes()
platform = Platform.create_for_localhost().value
print(PexCli.default_version, platform, hashlib.sha256(content).hexdigest(), len(content), sep="|")
PYTHON
}

write_rc() {
  local python=${EAI_PYTHON:-} known
  known=$(known_pex)
  if [ -z "$python" ] && ! find_python 11 >/dev/null; then
    python=$(fetch_python 3.11)
  fi
  {
    echo "# Written by build-support/bootstrap-pants.sh for this machine; not tracked."
    echo "[GLOBAL]"
    echo 'ignore_warnings.add = ["DEPRECATED: Running Pants in an external Python interpreter"]'
    if [ -n "${SSL_CERT_FILE:-}" ] && [ -r "${SSL_CERT_FILE:-}" ]; then
      echo "ca_certs_path = \"$SSL_CERT_FILE\""
    fi
    if [ -n "${PIP_INDEX_URL:-}" ]; then # Pex ignores pip's settings
      printf '\n[python-repos]\nindexes = ["%s"]\n' "$PIP_INDEX_URL"
    fi
    if [ -n "$python" ]; then
      printf '\n[python-bootstrap]\nsearch_path = ["%s", "<PYENV>", "<PATH>"]\n' "$python"
    fi
    printf '\n[pex-cli]\nurl_template = "file://%%(buildroot)s/.pants-tools/pex"\nknown_versions = ["%s"]\n' "$known"
  } >"$root/.pants.rc.new"
  chmod 600 "$root/.pants.rc.new" # an index address may carry a password
  mv "$root/.pants.rc.new" "$root/.pants.rc"
}

if [ -e "$root/.pants.rc" ] && cmp -s "$lock" "$tools/pants.lock"; then
  exit 0
fi
mkdir -p "$tools"
exec 9>"$tools/bootstrap.busy"
if command -v flock >/dev/null; then flock 9; fi # two at a time would tread on each other
if [ ! -e "$root/.pants.rc" ] || ! cmp -s "$lock" "$tools/pants.lock"; then
  say "installing Pants below .pants-tools (once; a minute at most) ..."
  install_pants
  build_pex
  write_rc
  cp "$lock" "$tools/pants.lock" # last, so that an installation cut short is done again
fi
