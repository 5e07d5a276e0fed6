# Starts Valkey in either kind of image. The configuration comes by standard input, so that the password is in no other
# file, argument or variable. Runs as the server's user; the password comes from file descriptor 3.
password=$(cat <&3)
exec 3<&-

# appendonly: a revoked session must stay revoked after a restart.
# maxmemory-policy: no eviction, since the server stores revoked sessions and running tasks; a full one refuses writes.
# timeout: the default, 0, would never close connections whose other end is gone. It never closes subscribers.
# client-output-buffer-limit: the default, 32mb 8mb 60, would disconnect a replica that is slow to read the tokens of
# many answers.
exec valkey-server - <<CONFIGURATION
bind * -::*
dir /data
requirepass $password
appendonly yes
appendfsync everysec
maxmemory ${EDGE_MEMORY}mb
maxmemory-policy noeviction
maxclients 10000
timeout 1800
tcp-keepalive 60
client-output-buffer-limit pubsub 128mb 64mb 60
CONFIGURATION
