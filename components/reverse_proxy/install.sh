# Runs once beside the proxy, in its process and network namespaces: tests what was uploaded, swaps it in by one
# rename, has the proxy reload and waits until it answers with it. Nothing is swapped that Nginx refuses.
set -eu
cd "$EDGE_DIRECTORY"

# A generation is named by its content: the configuration with its certificate.
generation=$(cat candidate/nginx.conf candidate/tls/* | sha256sum | cut -c 1-16)
printf 'set $generation "%s";\n' "$generation" > candidate/generation.conf
chmod 0700 candidate candidate/tls

# Words of Nginx, without the path that only this script knows.
if ! words=$(nginx -t -q -c "$PWD/candidate/nginx.conf" 2>&1); then
    printf '%s\n' "$words" | sed "s|$PWD/candidate/||g"
    exit 1
fi

rm -rf "generations/$generation.new"
mkdir -p generations
cp -Rp candidate "generations/$generation.new"
if [ ! -e "generations/$generation" ]; then
    mv "generations/$generation.new" "generations/$generation"
fi
ln -sfn "generations/$generation" current.new
mv -T current.new current
rm -rf candidate "generations/$generation.new"

served() {
    curl --silent --max-time 2 http://127.0.0.1:8081/generation || true
}

# The proxy's first process is a shell until there is a configuration, and deaf to HUP until Nginx listens for it:
# hence again each second, until it answers with what was installed.
attempt=0
while [ "$(served)" != "$generation" ]; do
    if [ "$attempt" -ge 300 ]; then
        echo "Nginx accepted the configuration in its test but has not taken it up within 30 seconds;" \
            "its log says why (make logs ROLE=nginx)"
        exit 1
    fi
    if [ $((attempt % 10)) -eq 0 ] && [ "$(cat /proc/1/comm)" = nginx ]; then
        kill -HUP 1 || true
    fi
    attempt=$((attempt + 1))
    sleep 0.1
done

for old in generations/*; do
    if [ "$old" != "generations/$generation" ]; then
        rm -rf "$old"
    fi
done
echo "serving generation $generation"
