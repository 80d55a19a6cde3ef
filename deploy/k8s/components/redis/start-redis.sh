#!/bin/sh
# Starts a server as what it was. Its first configuration makes redis-0 the primary and the others its replicas; from then
# on Redis itself writes into its own copy what the sentinels made of it.
set -eu
own=/data/redis.conf
password=$(cat /run/secrets/redis/password)
if [ ! -s "$own" ]; then
  cp /etc/redis/redis.conf "$own"
  [ "$HOSTNAME" = redis-0 ] || echo "replicaof redis-0.redis 6379" >>"$own"
fi
exec redis-server "$own" --replica-announce-ip "$HOSTNAME.redis" --requirepass "$password" --masterauth "$password" "$@"
