# The container's first process, which becomes Nginx.
cd "$EDGE_DIRECTORY" || exit
# A socket that a killed Nginx left would prevent the next one from listening.
rm -f "$EDGE_METRICS/nginx.sock"
until [ -e current/nginx.conf ]; do
    sleep 0.1
done
# Stops with the container's first process, and is no child that Nginx would have to reap.
while :; do
    (watch)
    echo "$(date '+%Y/%m/%d %H:%M:%S') [error] certificate: the watcher exited, and starts again" >&2
    sleep 1
done &
exec nginx -c "$EDGE_DIRECTORY/current/nginx.conf" -g 'daemon off;'
