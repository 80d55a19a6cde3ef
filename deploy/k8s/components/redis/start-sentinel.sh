#!/bin/sh
# Starts a sentinel with what it knew. It keeps its own copy of the configuration, with the primary of today in it.
set -eu
own=/data/sentinel.conf
password=$(cat /run/secrets/redis/password)
if [ ! -s "$own" ]; then
  cp /etc/redis/sentinel.conf "$own"
  echo "sentinel announce-ip $HOSTNAME.redis" >>"$own"
fi
# The password is today's, whatever was written down.
grep -v '^sentinel auth-pass ' "$own" >"$own.new" && echo "sentinel auth-pass gateway $password" >>"$own.new"
mv "$own.new" "$own"
exec redis-server "$own" --sentinel "$@"
