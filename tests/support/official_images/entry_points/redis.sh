#!/bin/sh
# Stands in for the official image's docker-entrypoint.sh: root hands the folder to the server's user and becomes it.
set -e
case $1 in
    -* | *.conf) set -- valkey-server "$@" ;;
esac
if [ "$1" = valkey-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user valkey -exec chown valkey '{}' +
    exec setpriv --reuid=valkey --regid=valkey --clear-groups -- "$0" "$@"
fi
umask 0077
exec "$@"
