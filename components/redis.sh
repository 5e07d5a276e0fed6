# Starts Valkey in either kind of image. The configuration goes by standard input, so that the password is in no file
# but its own, no argument and no variable. Runs as the server's user; the password is what descriptor 3 reads.
password=$(cat <&3)
exec 3<&-

exec valkey-server - <<CONFIGURATION
bind * -::*
dir /data
requirepass $password
# A session that was ended must stay ended after a restart.
appendonly yes
appendfsync everysec
# Nothing is thrown out to make room: what is here is who was signed out and what runs. A full one refuses to write.
maxmemory ${EDGE_MEMORY}mb
maxmemory-policy noeviction
maxclients 10000
# Default 0: connections whose other end is gone would stay for ever. Subscribers are never closed by it.
timeout 1800
tcp-keepalive 60
# Default 32mb 8mb 60: a replica that is behind with the tokens of many answers would be cut off.
client-output-buffer-limit pubsub 128mb 64mb 60
CONFIGURATION
