#!/usr/bin/env bash
# Runs each service's PEX without settings: it must start far enough to say which it needs, and exit 2.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
code=0
for folder in services/*/; do
  stage=$(basename "$folder")
  pex=$(find dist -name "eai-$stage.pex" | head -n 1)
  if [ -z "$pex" ]; then
    echo "eai-$stage.pex: not built" >&2
    code=1
    continue
  fi
  said=$(env -u RABBITMQ_URL -u REDIS_URL "$pex" 2>&1)
  status=$?
  if [ $status != 2 ] || ! grep -q 'REDIS_URL: is required' <<<"$said"; then
    printf '%s: exit %s, expected 2 and a line that names REDIS_URL\n%s\n' "$pex" "$status" "$said" >&2
    code=1
  else
    printf '%-24s %5.1f MB, asks for its settings\n' "eai-$stage.pex" "$(($(du -k "$pex" | cut -f1) * 10 / 1024))e-1"
  fi
done
exit $code
