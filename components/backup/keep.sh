# Keeps backups with restic: `keep.sh COMMAND`, with variables of the name EDGE_…. Runs in restic's official image, whose
# shell is BusyBox', and in the one built from Debian's packages. What restic is told is in files that root alone reads.
given=/run/open-webui-edge
work=/work
umask 077

RESTIC_REPOSITORY=$(cat $given/repository)
export RESTIC_REPOSITORY RESTIC_CACHE_DIR=$work/cache
export RESTIC_PROGRESS_FPS="${EDGE_PROGRESS:-0.05}"
without_password=
if [ -s $given/password ]; then
    export RESTIC_PASSWORD_FILE=$given/password
else
    without_password=--insecure-no-password
fi
if [ -s $given/access_key_id ]; then
    AWS_ACCESS_KEY_ID=$(cat $given/access_key_id)
    AWS_SECRET_ACCESS_KEY=$(cat $given/secret_access_key)
    AWS_DEFAULT_REGION=$(cat $given/region)
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION
fi

say() {
    echo "backup: $*"
}

run() {
    restic $without_password "$@"
}

# One at a time, whoever begins it: so a lock that is found in the repository was left by one that was killed.
alone() {
    exec 9> $work/lock
    if ! flock -n 9; then
        say "another backup of this stack is at work; waiting for it"
        flock 9
    fi
}

# Exit codes of restic: 10 no repository, 12 wrong password.
open_repository() {
    code=0
    words=$(run --no-lock cat config 2>&1 > /dev/null) || code=$?
    case $code in
        0) ;;
        10) make_repository ;;
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

make_repository() {
    say "making the repository $RESTIC_REPOSITORY"
    case $RESTIC_REPOSITORY in
        /*)
            # Only a whole one gets its place: what was cut short would have a key that opens nothing.
            rm -rf "$RESTIC_REPOSITORY.new"
            run --repo "$RESTIC_REPOSITORY.new" init --quiet || return 1
            rm -rf "$RESTIC_REPOSITORY"
            mv "$RESTIC_REPOSITORY.new" "$RESTIC_REPOSITORY"
            ;;
        *) run init --quiet || return 1 ;;
    esac
}

# Half migrated, it could be restored by nobody: what it is put back from stays in the volume.
between_versions() {
    grep -q '"attempt": {' /backup/data/open-webui-edge-upgrade.json 2> /dev/null
}

# Some of it then, some of it now.
restoring="a restore is under way or was cut (make restore without FROM brings it to its end); no backup until then"
between_backups() {
    [ -e /backup/data/.open-webui-edge-restore/merging ]
}

# The copy of the database was made; here it goes into the repository with the files.
keep() {
    alone
    if between_versions; then
        say "a change of Open WebUI's version is under way or was cut (make up ends it); no backup until then"
        return 1
    fi
    if between_backups; then
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
        kept=$(run snapshots --tag "number=$number" --json | sed -n 's/.*"short_id": *"\([0-9a-f]*\)".*/\1/p')
        if [ "$code" = 0 ] && uploads_are_there && ! between_versions && ! between_backups; then break; fi
        if [ -n "$kept" ]; then run forget --quiet "$kept"; fi
        if between_backups; then
            say "$restoring"
            return 1
        fi
        # 3: something could not be read.
        if [ "$code" != 0 ] && [ "$code" != 3 ]; then return "$code"; fi
        if [ "$tries" = 5 ]; then
            say "files went away while they were read, five times"
            return 3
        fi
        say "a file went away while it was read; once more"
    done
    say "kept as $kept: $(cat /backup/copy/tags)"
    # It is as large as the database, and in clear.
    rm -rf /backup/copy/files /backup/copy/database.dump /backup/copy/secret_key
    # Also what one left that was killed: forgetting alone clears up after what it forgets.
    if ! run forget --host "$EDGE_STACK" --group-by host --keep-within "$EDGE_KEEP" --quiet; then
        say "the backup is kept; what is older than $EDGE_KEEP could not be removed"
        return 1
    fi
    if ! run prune --quiet; then
        say "the backup is kept; the room of what was given up could not be freed"
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
        # A name with a backslash or the end of a line in it is written otherwise here than it is.
        case $line in \\*) continue ;; esac
        [ -e "/backup/data/${line#*  }" ] || return 1
    done < /backup/copy/uploads.sha256
}

# Of the container that runs all the time.
now() {
    number=$(date +%s).$$
    began=$(date +%s)
    echo "$number" > /backup/copy/asked.new
    mv /backup/copy/asked.new /backup/copy/asked
    answer=
    until [ "${answer%% *}" = "$number" ]; do
        if [ $(($(date +%s) - began)) -gt 14400 ]; then
            say "no copy of the database was made within four hours; the container that makes it says more"
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
        say "it did not work; the next try is in fifteen minutes"
        date +%s > $work/failed
        return 1
    fi
}

# Seconds from a moment until a time of day, in UTC.
seconds_until() {
    hours=${1%:*} minutes=${1#*:}
    wanted=$(((${hours#0} * 60 + ${minutes#0}) * 60))
    left=$(((wanted - $2 % 86400 + 86400) % 86400))
    if [ "$left" = 0 ]; then left=86400; fi
    echo "$left"
}

serve() {
    trap 'exit 0' TERM INT
    rm -f $work/opened
    until (alone && open_repository); do
        rest 60
    done
    touch $work/opened
    # What failed before is tried again at once, and so is what a machine that was off missed.
    if [ -e $work/last ] && [ $(($(date +%s) - $(cat $work/last))) -gt 90000 ]; then touch $work/failed; fi
    while :; do
        if [ ! -e $work/failed ]; then
            left=$(seconds_until "$EDGE_AT" "$(date +%s)")
            say "the next one is in $((left / 3600)) h $((left % 3600 / 60)) min, at $EDGE_AT UTC"
            rest "$left"
        fi
        attempt || rest 900
    done
}

# Told to end, it does so at once.
rest() {
    sleep "$1" &
    wait $!
}

# Well is: the repository opens, the last try worked, and it is not longer ago than a day and some.
health() {
    [ -e $work/opened ] || { echo "the repository was not opened yet"; return 1; }
    [ ! -e $work/failed ] || { echo "the last backup failed"; return 1; }
    [ ! -e $work/last ] || [ $(($(date +%s) - $(cat $work/last))) -lt 93600 ] || { echo "the last backup is too old"; return 1; }
}

# Who only reads is not stopped by a lock that one left that was killed.
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

# Beside the data: what is on its way in must be on the same disk as what it replaces.
fetch() {
    rm -rf /data/.open-webui-edge-restore/new
    mkdir -p /data/.open-webui-edge-restore
    needed=$(run --no-lock stats --mode restore-size --json "$1" | sed -n 's/.*"total_size": *\([0-9]*\).*/\1/p')
    free=$(df -P -k /data | tail -n 1 | awk '{print $4}')
    if [ "$((${needed:-0} / 1024))" -gt "$free" ]; then
        say "the backup takes $((needed / 1048576)) MiB beside the data, and $((free / 1024)) MiB are free; make room first"
        return 1
    fi
    run --no-lock restore "$1:/backup" --target /data/.open-webui-edge-restore/new
}

check() {
    alone
    open_existing || return
    run unlock --remove-all --quiet
    run check "$@"
}

# For a folder on another machine: what is there, and of that what is asked for.
list() {
    alone
    cd "$RESTIC_REPOSITORY" || return
    sha256sum config | cut -d ' ' -f 1
    find config data index keys snapshots -type f -exec stat -c '%s %n' {} +
}

send() {
    alone
    cd "$RESTIC_REPOSITORY" || return
    # One archive after the other: not every tar reads names from a file.
    xargs -n 200 tar -cf -
}

receive() {
    mkdir -p "$RESTIC_REPOSITORY"
    cd "$RESTIC_REPOSITORY" || return
    tar -xf -
}

asked=$1
shift
"$asked" "$@"
