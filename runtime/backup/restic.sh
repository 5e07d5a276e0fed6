# Saves backups with restic: `keep.sh COMMAND`, with variables EDGE_…. Runs in restic's official image, with BusyBox's
# shell, and in the one built from Debian's packages. Settings and secrets are in files that only root can read.
config=/run/open-webui-edge
work=/work
umask 077

RESTIC_REPOSITORY=$(cat $config/repository)
export RESTIC_REPOSITORY RESTIC_CACHE_DIR=$work/cache
export RESTIC_PROGRESS_FPS="${EDGE_PROGRESS:-0.05}"
without_password=
if [ -s $config/password ]; then
    export RESTIC_PASSWORD_FILE=$config/password
else
    without_password=--insecure-no-password
fi
if [ -s $config/access_key_id ]; then
    AWS_ACCESS_KEY_ID=$(cat $config/access_key_id)
    AWS_SECRET_ACCESS_KEY=$(cat $config/secret_access_key)
    AWS_DEFAULT_REGION=$(cat $config/region)
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION
fi

if [ -s $config/proxy ]; then
    while IFS= read -r variable; do export "$variable"; done < $config/proxy
fi
# Go reads the folder of the public CAs as well.
if [ -s $config/authorities.pem ]; then export SSL_CERT_FILE=$config/authorities.pem; fi

say() {
    echo "backup: $*"
}

run() {
    restic $without_password "$@"
}

# One process at a time, on a lock of our own: so a lock in the repository was left by a killed process.
lock() {
    exec 9> $work/lock
    if ! flock -n 9; then
        say "another backup of this stack is running; waiting for it"
        flock 9
    fi
}

# Exit codes of restic: 10 no repository, 12 wrong password.
open_repository() {
    code=0
    words=$(run --no-lock cat config 2>&1 > /dev/null) || code=$?
    case $code in
        0) ;;
        10) create_repository ;;
        12)
            say "the password does not open the repository $RESTIC_REPOSITORY; it was made with another one"
            return 12
            ;;
        *)
            say "the repository $RESTIC_REPOSITORY cannot be opened: $words"
            return 1
            ;;
    esac
}

create_repository() {
    say "creating the repository $RESTIC_REPOSITORY"
    case $RESTIC_REPOSITORY in
        /*)
            # Created elsewhere and renamed: an interrupted one could have a key that opens nothing.
            rm -rf "$RESTIC_REPOSITORY.new"
            run --repo "$RESTIC_REPOSITORY.new" init --quiet || return 1
            rm -rf "$RESTIC_REPOSITORY"
            mv "$RESTIC_REPOSITORY.new" "$RESTIC_REPOSITORY"
            ;;
        *) run init --quiet || return 1 ;;
    esac
}

# A half-migrated database could not be restored: its snapshot stays in the volume.
upgrade_in_progress() {
    grep -q '"attempt": {' /backup/data/open-webui-edge-upgrade.json 2> /dev/null
}

# During a restore the data is inconsistent.
restoring="a restore is in progress or was interrupted (make restore without FROM finishes it); no backup until then"
restore_in_progress() {
    [ -e /backup/data/.open-webui-edge-restore/merging ]
}

# Saves the copy of the database and the files into the repository.
keep() {
    lock
    if upgrade_in_progress; then
        say "an upgrade of Open WebUI is in progress or was interrupted (make up finishes it); no backup until then"
        return 1
    fi
    if restore_in_progress; then
        say "$restoring"
        return 1
    fi
    open_repository || return
    run unlock --remove-all --quiet || return
    tries=0
    while :; do
        tries=$((tries + 1))
        number=$(date +%s).$$.$tries
        list_uploads > /backup/copy/uploads.sha256
        code=0
        run backup --host "$EDGE_STACK" --tag "$(cat /backup/copy/tags),number=$number" \
            --exclude-file /backup/copy/excluded --exclude /backup/copy/asked --exclude /backup/copy/answer \
            /backup/data /backup/copy || code=$?
        snapshot=$(run snapshots --tag "number=$number" --json | sed -n 's/.*"short_id": *"\([0-9a-f]*\)".*/\1/p')
        if [ "$code" = 0 ] && uploads_are_there && ! upgrade_in_progress && ! restore_in_progress; then break; fi
        if [ -n "$snapshot" ]; then run forget --quiet "$snapshot"; fi
        if restore_in_progress; then
            say "$restoring"
            return 1
        fi
        # 3: something could not be read.
        if [ "$code" != 0 ] && [ "$code" != 3 ]; then return "$code"; fi
        if [ "$tries" = 5 ]; then
            say "files were deleted while they were read, five times"
            return 3
        fi
        say "a file was deleted while it was read; retrying"
    done
    say "saved as $snapshot: $(cat /backup/copy/tags)"
    # The copy is as large as the database, and unencrypted.
    rm -rf /backup/copy/files /backup/copy/database.dump /backup/copy/secret_key
    # Prune always, and not only after forget: a killed backup leaves data too.
    if ! run forget --host "$EDGE_STACK" --group-by host --keep-within "$EDGE_KEEP" --quiet; then
        say "the backup is saved; backups older than $EDGE_KEEP could not be removed"
        return 1
    fi
    if ! run prune --quiet; then
        say "the backup is saved; the space of removed backups could not be freed"
        return 1
    fi
}

list_uploads() {
    if [ -d /backup/data/uploads ]; then
        (cd /backup/data && find uploads -type f -exec sha256sum {} +)
    fi
}

uploads_are_there() {
    while IFS= read -r line; do
        # sha256sum escapes names with a backslash or a newline.
        case $line in \\*) continue ;; esac
        [ -e "/backup/data/${line#*  }" ] || return 1
    done < /backup/copy/uploads.sha256
}

# A backup now; the serving container of the database makes the copy.
now() {
    number=$(date +%s).$$
    began=$(date +%s)
    echo "$number" > /backup/copy/asked.new
    mv /backup/copy/asked.new /backup/copy/asked
    answer=
    until [ "${answer%% *}" = "$number" ]; do
        if [ $(($(date +%s) - began)) -gt 14400 ]; then
            say "no copy of the database was made within four hours; see the log of the container that makes it"
            return 1
        fi
        sleep 1
        if [ -e /backup/copy/answer ]; then answer=$(cat /backup/copy/answer); fi
    done
    if [ "${answer#* }" != "done" ]; then
        say "the database could not be copied: ${answer#* failed: }"
        return 1
    fi
    keep
}

attempt() {
    if /bin/sh -eu "$0" now; then
        date +%s > $work/last
        rm -f $work/failed
    else
        say "the backup failed; retrying in fifteen minutes"
        date +%s > $work/failed
        return 1
    fi
}

# Seconds from a moment until a time of day, in UTC.
seconds_until() {
    hours=${1%:*} minutes=${1#*:}
    target=$(((${hours#0} * 60 + ${minutes#0}) * 60))
    left=$(((target - $2 % 86400 + 86400) % 86400))
    if [ "$left" = 0 ]; then left=86400; fi
    echo "$left"
}

serve() {
    trap 'exit 0' TERM INT
    rm -f $work/opened
    until (lock && open_repository); do
        rest 60
    done
    touch $work/opened
    # Retry a failed backup at once, and make up for one that was missed while the machine was off.
    if [ -e $work/last ] && [ $(($(date +%s) - $(cat $work/last))) -gt 90000 ]; then touch $work/failed; fi
    while :; do
        if [ ! -e $work/failed ]; then
            left=$(seconds_until "$EDGE_AT" "$(date +%s)")
            say "the next backup is in $((left / 3600)) h $((left % 3600 / 60)) min, at $EDGE_AT UTC"
            rest "$left"
        fi
        attempt || rest 900
    done
}

# In the background, so that SIGTERM ends it at once.
rest() {
    sleep "$1" &
    wait $!
}

# Healthy: the repository is open, the last backup succeeded, and it is not much older than a day.
health() {
    [ -e $work/opened ] || { echo "the repository is not open yet"; return 1; }
    [ ! -e $work/failed ] || { echo "the last backup failed"; return 1; }
    [ ! -e $work/last ] || [ $(($(date +%s) - $(cat $work/last))) -lt 93600 ] || { echo "the last backup is too old"; return 1; }
}

# Reads without a lock: one that a killed process left must not block it.
snapshots() {
    open_existing || return
    run --no-lock snapshots --json
}

open_existing() {
    code=0
    words=$(run --no-lock cat config 2>&1 > /dev/null) || code=$?
    case $code in
        0) return ;;
        10) echo "there is no backup at $RESTIC_REPOSITORY" >&2 ;;
        12) echo "the password does not open the repository; KEY_FILE=… names the file with the one it was made with" >&2 ;;
        *) echo "the repository cannot be opened: $words" >&2 ;;
    esac
    return "$code"
}

manifest() {
    run --no-lock dump "$1" /backup/copy/manifest.json
}

secret_key() {
    run --no-lock dump "$1" /backup/copy/secret_key
}

# Next to the data: staged files must be on the same disk as those that they replace.
fetch() {
    rm -rf /data/.open-webui-edge-restore/new
    mkdir -p /data/.open-webui-edge-restore
    needed=$(run --no-lock stats --mode restore-size --json "$1" | sed -n 's/.*"total_size": *\([0-9]*\).*/\1/p')
    free=$(df -P -k /data | tail -n 1 | awk '{print $4}')
    if [ "$((${needed:-0} / 1024))" -gt "$free" ]; then
        say "the backup takes $((needed / 1048576)) MiB next to the data; only $((free / 1024)) MiB are free"
        return 1
    fi
    run --no-lock restore "$1:/backup" --target /data/.open-webui-edge-restore/new
}

check() {
    lock
    open_existing || return
    run unlock --remove-all --quiet
    run check "$@"
}

# For a folder on another machine: lists the files here, and sends those that it lacks.
list() {
    lock
    cd "$RESTIC_REPOSITORY" || return
    sha256sum config | cut -d ' ' -f 1
    find config data index keys snapshots -type f -exec stat -c '%s %n' {} +
}

send() {
    lock
    cd "$RESTIC_REPOSITORY" || return
    # Several archives in a row: not every tar reads names from a file.
    xargs -n 200 tar -cf -
}

receive() {
    mkdir -p "$RESTIC_REPOSITORY"
    cd "$RESTIC_REPOSITORY" || return
    tar -xf -
}

command=$1
shift
"$command" "$@"
