# What the scripts of the proxy share. They run in the folder with the configuration ($EDGE_DIRECTORY) and find what
# others offer in $EDGE_CERTIFICATES. Each is read after this file, by /bin/sh.
#
# A generation is a folder that nobody changes: nginx.conf, its certificate, and what must be known about that.
# `current` leads to the one in force; who changes that holds the lock.

# Named by a hash of all that somebody wrote.
name_of() {
    (cd "$1" && cat nginx.conf certificate_source warn_before pair tls/*) | sha256sum | cut -c 1-16
}

# On the folder itself: nothing that could be left behind, or not be made on a full disk. It ends with its holder.
lock() {
    exec 9< . && flock "$@" 9
}

# Whether Nginx takes what is in a folder; if not, its words, without the path that only these scripts know.
accepted() {
    # shellcheck disable=SC2016 # the variable is Nginx's
    printf 'set $generation "%s";\n' "$(name_of "$1")" > "$1/generation.conf" || return
    if words=$(nginx -t -q -c "$PWD/$1/nginx.conf" 2>&1 < /dev/null); then
        return 0
    fi
    printf '%s\n' "$words" | sed "s|$PWD/$1/||g"
    return 1
}

# Make the folder $1 of what is in $2 and of the certificate that is offered in $3. If that cannot be served, says why.
with_offer() {
    rm -rf "$1" && mkdir -p "$1" && cp -Rp "$2/." "$1" || return
    cat "$3/certificate.pem" > "$1/tls/certificate.pem" || return
    cat "$3/private_key.pem" > "$1/tls/private_key.pem" || return
    echo offered > "$1/pair" || return
    accepted "$1" || return
    # Nginx serves what has expired as well.
    if ! openssl x509 -noout -checkend 0 -in "$1/tls/certificate.pem" > /dev/null; then
        echo "it expired on $(openssl x509 -noout -enddate -in "$1/tls/certificate.pem" | cut -d = -f 2)"
        return 1
    fi
}

point_to() {
    ln -sfn "$1" current.new && mv -T current.new current
}

# Make what is in a folder the generation in force, once it is whole on the disk.
put_in_force() {
    generation=$(name_of "$1") && find "$1" -type f -exec sync {} + || return
    if [ -e "generations/$generation" ]; then
        rm -rf "$1"
    else
        mv "$1" "generations/$generation" || return
    fi
    point_to "generations/$generation"
}

served_generation() {
    curl --silent --max-time 2 http://127.0.0.1:8081/generation || true
}

# Have Nginx reload until it answers with what is in force. The proxy's first process is a shell until there is a
# configuration, and deaf to HUP until Nginx listens for it: hence again each second.
taken_up() {
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

remove_others() {
    for old in generations/*; do
        if [ "$old" != "$(readlink current)" ]; then
            rm -rf "$old"
        fi
    done
}

# What a client gets to see, by a handshake: the certificate in PEM, with words around it. Where clients must come with
# the PROXY protocol, the same certificate is shown on a port for this alone.
served_certificate() {
    port=443
    if grep -q 'listen 127\.0\.0\.1:8443 ssl;' current/nginx.conf; then
        port=8443
    fi
    timeout 2 openssl s_client -connect "127.0.0.1:$port" < /dev/null 2> /dev/null
}

# Find out about the first certificate in a text: serial, issuer, ends (as OpenSSL writes dates), names; expiry, left
# (seconds) and days, which are whole and rounded down.
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

# What there is to say about it, and how loud: an expired one is a fault, one that soon will be a warning.
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
