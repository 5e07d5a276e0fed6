# Copies a PostgreSQL database online, and restores such a copy: `database.sh COMMAND`. Runs in PostgreSQL's image, whose
# pg_dump has the server's version. Address and password are in a file that libpq reads: other users could read
# arguments.
config=/run/open-webui-edge
export PGSERVICEFILE=$config/service PGSERVICE=open_webui PGCONNECT_TIMEOUT=30
umask 077

# One transaction, so that the counts and the dump are of the same moment.
copy() {
    rm -rf /copy/database.dump /copy/manifest.json /copy/tags /copy/secret_key
    psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 << 'END'
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS moment \gset
\setenv MOMENT :moment
\! pg_dump --snapshot="$MOMENT" --format=custom --compress=none --no-owner --no-acl --file=/copy/database.dump || rm -f /copy/database.dump
SELECT to_regclass('chat_message') IS NOT NULL AS counted \gset
\if :counted
  SELECT count(*) AS messages FROM chat_message \gset
\else
  \set messages null
\endif
SELECT count(*) AS users FROM "user" \gset
SELECT count(*) AS chats FROM chat \gset
SELECT count(*) AS files FROM file \gset
\o /copy/counts
\qecho :users :chats :messages :files
\o
COMMIT;
END
    if [ ! -e /copy/database.dump ]; then
        echo "pg_dump failed; see its output above" >&2
        return 1
    fi
    read -r users chats messages files < /copy/counts
    counted="\"users\": $users, \"chats\": $chats, \"files\": $files"
    tags="users=$users,chats=$chats,files=$files"
    if [ "$messages" != null ]; then
        counted="$counted, \"messages\": $messages"
        tags="$tags,messages=$messages"
    fi
    echo "$tags" > /copy/tags
    if [ -e $config/secret_key ]; then cat $config/secret_key > /copy/secret_key; fi
    printf '/backup/data/%s\n' .open-webui-edge-restore .open-webui-edge-restore-over \
        open-webui-edge-snapshots open-webui-edge-upgrade.lock \
        cache/embedding cache/whisper vector_db > /copy/excluded
    echo "{\"format\": 1, \"database\": \"postgresql\", \"open_webui\": \"$(cat $config/version)\"," \
        "\"counts\": {$counted}}" > /copy/manifest.json.new
    mv /copy/manifest.json.new /copy/manifest.json
}

# A dump of the current database, for a rollback.
keep_beside() {
    mkdir -p "${1%/*}"
    pg_dump --format=custom --compress=none --no-owner --no-acl --file="$1.new"
    mv "$1.new" "$1"
}

serve() {
    while :; do
        if [ -e /copy/asked ]; then
            number=$(cat /copy/asked)
            # In a separate shell, which exits at the first failure.
            if words=$(/bin/sh -eu "$0" copy 2>&1); then answer="done"; else answer="failed: $words"; fi
            rm -f /copy/asked
            echo "$number $answer" > /copy/answer.new
            mv /copy/answer.new /copy/answer
        fi
        sleep 1
    done
}

# In one transaction: if it fails, the database is unchanged. From a file and not from a pipe, whose early end would look
# like success. Servers before 17 do not know transaction_timeout. The mark ($2), if there is one, is part of the
# transaction: after an interruption it shows whether the transaction was committed.
restore() {
    rm -f "$1.sql"
    pg_restore --no-owner --no-acl --file="$1.sql" "$1"
    sed -i '/^SET transaction_timeout/d' "$1.sql"
    printf 'DROP SCHEMA public CASCADE;\nCREATE SCHEMA public;\n' > "$1.first"
    if [ -n "${2:-}" ]; then echo "COMMENT ON SCHEMA public IS '$2';" > "$1.last"; else : > "$1.last"; fi
    psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --single-transaction \
        --file="$1.first" --file="$1.sql" --file="$1.last"
    rm -f "$1.sql" "$1.first" "$1.last"
}

marked() {
    psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
        --command="SELECT obj_description('public'::regnamespace, 'pg_namespace')"
}

counts() {
    psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 << 'END'
SELECT to_regclass('chat_message') IS NOT NULL AS counted \gset
\if :counted
SELECT json_build_object('users', (SELECT count(*) FROM "user"), 'chats', (SELECT count(*) FROM chat), 'files', (SELECT count(*) FROM file), 'messages', (SELECT count(*) FROM chat_message));
\else
SELECT json_build_object('users', (SELECT count(*) FROM "user"), 'chats', (SELECT count(*) FROM chat), 'files', (SELECT count(*) FROM file));
\endif
END
}

command=$1
shift
"$command" "$@"
