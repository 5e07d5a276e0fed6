#!/bin/sh
# Stands in for 10-listen-on-ipv6-by-default.sh: the default server listens by IPv6 too, where its file can be written.
set -e
file=/etc/nginx/conf.d/default.conf
if [ -e /proc/net/if_inet6 ] && [ -w "$file" ] && ! grep -q 'listen *\[::\]:80;' "$file"; then
    sed -i 's/listen *80;/listen 80; listen [::]:80;/' "$file"
fi
