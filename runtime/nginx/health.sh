# The proxy's health check: fails only if Nginx does not answer, or serves an expired certificate.
cd "$EDGE_DIRECTORY" || exit
if ! curl --fail --silent --max-time 2 --output /dev/null http://127.0.0.1:8081/health; then
    echo "Nginx does not answer"
    exit 1
fi
if ! read_certificate "$(served_certificate)"; then
    echo "Nginx answers, but shows no certificate"
    exit 1
fi
judge_certificate
case $level in
    error)
        echo "the certificate $sentence"
        exit 1
        ;;
    warn) echo "ok, but a warning: the certificate has $sentence" ;;
    *) echo "ok: the certificate has $sentence" ;;
esac
