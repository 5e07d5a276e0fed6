# The proxy's first process, until it becomes Nginx.
cd "$EDGE_DIRECTORY" || exit
# A socket that a killed Nginx left would keep the next from listening.
rm -f "$EDGE_METRICS/nginx.sock"
until [ -e current/nginx.conf ]; do
    sleep 0.1
done
# Ends with the container's first process, and is no child that Nginx would have to know.
while :; do
    (watch)
    echo "$(date '+%Y/%m/%d %H:%M:%S') [error] certificate: who watches over it ended, and starts again" >&2
    sleep 1
done &
exec nginx -c "$EDGE_DIRECTORY/current/nginx.conf" -g 'daemon off;'
