# Starts PostgreSQL in either kind of image: creates the database at the first start, and never touches data of another
# major version. Runs as the server's user; the password comes from file descriptor 3.
home=/var/lib/postgresql
data=$home/$EDGE_MAJOR/docker
programs=/usr/lib/postgresql/$EDGE_MAJOR/bin
umask 077

if [ ! -x "$programs/postgres" ]; then
    echo "postgres: this image holds no PostgreSQL $EDGE_MAJOR"
    exit 1
fi

for folder in "$home"/*/docker; do
    if [ -e "$folder" ] && [ "$folder" != "$data" ]; then
        folder=${folder%/docker}
        echo "postgres: the volume holds the data of PostgreSQL ${folder##*/}; this is PostgreSQL $EDGE_MAJOR, which cannot" \
            "read it. Run the version that you had, write the data out with pg_dumpall, and read it in here after" \
            "moving $folder away."
        exit 1
    fi
done

if [ ! -e "$data" ]; then
    # Created elsewhere and renamed: an interrupted start leaves no usable database.
    rm -rf "$data.new"
    mkdir -p "$home/$EDGE_MAJOR"
    # Through a pipe: this user cannot reopen root's file by its path.
    cat <&3 | "$programs/initdb" --pgdata="$data.new" --username=open_webui --pwfile=/dev/stdin --encoding=UTF8 \
        --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >> "$data.new/pg_hba.conf"
    echo "CREATE DATABASE open_webui;" | "$programs/postgres" --single -D "$data.new" postgres > /dev/null
    mv "$data.new" "$data"
fi

# Room for 32 replicas, each of which opens at most 45 connections.
exec "$programs/postgres" -D "$data" -c listen_addresses='*' -c max_connections=1500 \
    -c shared_buffers="${EDGE_SHARED_BUFFERS}MB" 3<&-
