# Runs once beside the proxy, in its process and network namespaces: tests what was uploaded, swaps it in by one
# rename, has the proxy reload and waits until it answers with it. Nothing is swapped that Nginx refuses.
set -eu
umask 077
cd "$EDGE_DIRECTORY"
if ! lock -w 60; then
    echo "the proxy has been changing its certificate for a minute; its log says why (make logs ROLE=nginx)"
    exit 1
fi

echo uploaded > candidate/pair
chmod 0700 candidate candidate/tls
accepted candidate
mkdir -p generations

# A certificate that somebody else obtains is taken from there, and the uploaded one stands in for it until the first.
# If what is offered is no good, or gone, the last one that was good stays.
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
put_in_force generations/candidate.new
rm -rf candidate

if ! taken_up; then
    echo "Nginx accepted the configuration in its test but has not taken it up within 30 seconds;" \
        "its log says why (make logs ROLE=nginx)"
    exit 1
fi
remove_others
echo "serving generation $(basename "$(readlink current)")"
