# Runs once in the proxy's process and network namespaces: tests the uploaded configuration, activates it atomically,
# reloads Nginx gracefully and waits until it is live. A configuration that Nginx rejects changes nothing.
set -eu
umask 077
cd "$EDGE_DIRECTORY"
if ! lock -w 60; then
    echo "the proxy has been changing its certificate for a minute; its log says why (make logs ROLE=nginx)"
    exit 1
fi

echo uploaded > candidate/pair
chmod 0700 candidate candidate/tls
is_valid candidate
mkdir -p generations

# Certbot's certificate comes from the volume, and the uploaded one is a placeholder until the first.
# If the published one is invalid or gone, the last valid one stays.
chosen=candidate
if [ "$(cat candidate/certificate_source)" = offered ]; then
    last=current/tls
    if [ "$(cat current/pair 2> /dev/null || true)" != offered ]; then
        last=
    fi
    for pair in "$EDGE_CERTIFICATES/offered/current" $last; do
        if [ ! -e "$pair" ]; then
            continue
        fi
        if words=$(with_offer generations/offer.new candidate "$pair" 2>&1); then
            chosen=generations/offer.new
            break
        fi
        printf 'the certificate in %s is not taken: %s\n' "$pair" "$words"
    done
fi

rm -rf generations/candidate.new
cp -Rp "$chosen" generations/candidate.new
activate generations/candidate.new
rm -rf candidate

if ! is_live; then
    echo "Nginx accepted the configuration in its test but has not taken it up within 30 seconds;" \
        "its log says why (make logs ROLE=nginx)"
    exit 1
fi
prune
echo "serving generation $(basename "$(readlink current)")"
