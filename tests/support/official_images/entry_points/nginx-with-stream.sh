#!/bin/sh
# nginx.org's Nginx has the stream module built in; Debian's loads it, which no configuration file may have to say.
load='load_module /usr/libexec/nginx/ngx_stream_module.so;'
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    if [ "$word" = -g ]; then
        word="$load $1"
        load=
        shift
        left=$((left - 1))
        set -- "$@" -g
    fi
    set -- "$@" "$word"
done
if [ -n "$load" ]; then
    set -- "$@" -g "$load"
fi
exec /usr/libexec/nginx/nginx "$@"
