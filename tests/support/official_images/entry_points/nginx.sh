#!/bin/sh
# Stands in for the official image's /docker-entrypoint.sh: before Nginx starts it runs what is in /docker-entrypoint.d.
set -e
case $1 in
    nginx | nginx-debug)
        for part in /docker-entrypoint.d/*; do
            case $part in
                *.envsh) if [ -x "$part" ]; then . "$part"; fi ;;
                *.sh) if [ -x "$part" ]; then "$part"; fi ;;
            esac
        done
        ;;
esac
exec "$@"
