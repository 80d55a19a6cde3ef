#!/bin/bash
# What deploy/compose uses of the official image's entrypoint: it runs the server as its own user.
set -e
chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
if [ "$1" = rabbitmq-server ]; then
  exec gosu rabbitmq /usr/lib/rabbitmq/bin/rabbitmq-server
fi
exec "$@"
