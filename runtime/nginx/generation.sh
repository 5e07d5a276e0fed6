# Functions that the proxy's scripts share; /bin/sh reads this file first. The scripts run in the folder of the
# configuration ($EDGE_DIRECTORY); certificates are published in $EDGE_CERTIFICATES.
#
# A generation is an immutable folder: nginx.conf, its certificate, and metadata of that. `current` is a symbolic link to
# the active one; a process that changes it holds the lock.

# Hash of the content.
name_of() {
    (cd "$1" && cat nginx.conf certificate_source warn_before pair tls/*) | sha256sum | cut -c 1-16
}

# On the folder itself: leaves no lock file, works on a full disk, and ends with its process.
lock() {
    exec 9< . && flock "$@" 9
}

# Tests a folder with `nginx -t`; on failure prints Nginx's message without the path of the folder.
is_valid() {
    # shellcheck disable=SC2016 # the variable is Nginx's
    printf 'set $generation "%s";\n' "$(name_of "$1")" > "$1/generation.conf" || return
    if words=$(nginx -t -q -c "$PWD/$1/nginx.conf" 2>&1 < /dev/null); then
        return 0
    fi
    printf '%s\n' "$words" | sed "s|$PWD/$1/||g"
    return 1
}

# Creates the folder $1 from $2 and the published certificate in $3. If it cannot be served, prints why.
with_offer() {
    rm -rf "$1" && mkdir -p "$1" && cp -Rp "$2/." "$1" || return
    cat "$3/certificate.pem" > "$1/tls/certificate.pem" || return
    cat "$3/private_key.pem" > "$1/tls/private_key.pem" || return
    echo offered > "$1/pair" || return
    is_valid "$1" || return
    # Nginx would serve an expired certificate too.
    if ! openssl x509 -noout -checkend 0 -in "$1/tls/certificate.pem" > /dev/null; then
        echo "it expired on $(openssl x509 -noout -enddate -in "$1/tls/certificate.pem" | cut -d = -f 2)"
        return 1
    fi
}

symlink_to() {
    ln -sfn "$1" current.new && mv -T current.new current
}

# Makes a folder the active generation, after syncing it to the disk.
activate() {
    generation=$(name_of "$1") && find "$1" -type f -exec sync {} + || return
    if [ -e "generations/$generation" ]; then
        rm -rf "$1"
    else
        mv "$1" "generations/$generation" || return
    fi
    symlink_to "generations/$generation"
}

served_generation() {
    curl --silent --max-time 2 http://127.0.0.1:8081/generation || true
}

# Reloads Nginx until it serves the active generation. The container's first process is a shell until there is a
# configuration, and ignores HUP until Nginx handles it: hence the repetition each second.
is_live() {
    generation=$(basename "$(readlink current)")
    attempt=0
    while [ "$(served_generation)" != "$generation" ]; do
        if [ "$attempt" -ge 300 ]; then
            return 1
        fi
        if [ $((attempt % 10)) -eq 0 ] && [ "$(cat /proc/1/comm)" = nginx ]; then
            kill -HUP 1 || true
        fi
        attempt=$((attempt + 1))
        sleep 0.1
    done
}

prune() {
    for old in generations/*; do
        if [ "$old" != "$(readlink current)" ]; then
            rm -rf "$old"
        fi
    done
}

# The served certificate by a TLS handshake: PEM, with other output around it. Not over the port of clients, whose
# connections are counted and may begin with the PROXY protocol; a configuration of an earlier version has no other.
served_certificate() {
    port=443
    if grep -q 'listen 127\.0\.0\.1:8443 ssl[ ;]' current/nginx.conf; then
        port=8443
    fi
    timeout 2 openssl s_client -connect "127.0.0.1:$port" < /dev/null 2> /dev/null
}

# Parses the first certificate in a text into: serial, issuer, ends (OpenSSL's date), names, expiry, left (seconds) and
# days (rounded down).
read_certificate() {
    serial='' issuer='' ends='' names=''
    described=$(printf '%s\n' "$1" | openssl x509 -noout -serial -issuer -enddate -ext subjectAltName 2> /dev/null) ||
        return
    while IFS= read -r line; do
        case $line in
            serial=*) serial=${line#*=} ;;
            issuer=*) issuer=${line#*=} ;;
            notAfter=*) ends=${line#*=} ;;
            ' '*) names=$(printf '%s\n' "$line" | sed 's/^ *//; s/DNS://g; s/IP Address://g') ;;
        esac
    done << END
$described
END
    expiry=$(date --date="$ends" +%s) || return
    left=$((expiry - $(date +%s)))
    days=$(((left < 0 ? left - 86399 : left) / 86400))
}

# Sets level and sentence: error for an expired certificate, warn for one that expires soon.
judge_certificate() {
    warn_before=$(cat current/warn_before 2> /dev/null) || warn_before=0
    about="$names; issued by $issuer"
    if [ "$(cat current/certificate_source 2> /dev/null)" = offered ] && [ "$(cat current/pair)" != offered ]; then
        about="$about; a placeholder until the first certificate is there"
    fi
    if [ "$left" -le 0 ]; then
        level=error sentence="expired on $ends: $about"
    elif [ "$left" -lt "$warn_before" ]; then
        level=warn sentence="$days days left, fewer than $((warn_before / 86400)): $about"
    else
        level=notice sentence="$days days left: $about"
    fi
}
