# Runs in the proxy's container as long as Nginx does: activates a certificate as soon as it is published, and reports the
# remaining lifetime of the served one.

say() {
    echo "$(date '+%Y/%m/%d %H:%M:%S') [$1] certificate: $2" >&3
}

# One line without Nginx's prefix: the running Nginx itself has no emergency.
summarize() {
    sed 's/^.*\[emerg\] \([0-9#]*: \)\{0,1\}//; /test failed$/d' | head -n 3 | tr '\n' ' '
}

# Changes if there is anything to do: covers the active generation and the published certificate.
fingerprint() {
    offered=$EDGE_CERTIFICATES/offered/current
    stat --format='%n %i %s %y %z' current "$offered/certificate.pem" "$offered/private_key.pem" 2>&1
}

# Makes the active generation live, which an interrupted process may have left undone, and activates the published
# certificate. On failure prints the reason; returns 75 while another process holds the lock.
apply() {
    lock -n || return 75
    if ! is_live; then
        echo "Nginx has not taken up the configuration in force within 30 seconds"
        return 1
    fi
    if [ "$(cat current/certificate_source)" != offered ] || [ ! -e "$EDGE_CERTIFICATES/offered/current" ]; then
        return 0
    fi
    offer=$(readlink -f "$EDGE_CERTIFICATES/offered/current")
    if cmp -s "$offer/certificate.pem" current/tls/certificate.pem &&
        cmp -s "$offer/private_key.pem" current/tls/private_key.pem; then
        return 0
    fi

    before=$(readlink current)
    if ! words=$({ with_offer generations/offer.new current "$offer" && activate generations/offer.new; } 2>&1); then
        rm -rf generations/offer.new
        echo "the one offered in ${offer##*/} is not taken, the one before is served on: $(echo "$words" | summarize)"
        return 1
    fi
    if ! is_live; then
        symlink_to "$before"
        echo "the one offered in ${offer##*/} passed Nginx's test, but was not taken up within 30 seconds"
        return 1
    fi
    prune

    installed=$(openssl x509 -noout -serial -in current/tls/certificate.pem)
    attempt=0 in_a_row=0
    # Several times in a row: Nginx's old workers, which are shutting down, may still accept connections.
    while [ "$in_a_row" -lt 3 ]; do
        served=$(served_certificate | openssl x509 -noout -serial 2> /dev/null)
        in_a_row=$((in_a_row + 1))
        if [ "$served" != "$installed" ]; then
            in_a_row=0
        fi
        if [ "$attempt" -ge 50 ]; then
            echo "the one installed is not the one served: $installed, but $served"
            return 1
        fi
        attempt=$((attempt + 1))
        sleep 0.1
    done
    say notice "the one offered in ${offer##*/} is served: $served"
}

numbers() {
    prefix=open_webui_edge_certificate
    gauge "${prefix}_expiry_timestamp_seconds" "$expiry" "When the served certificate expires."
    gauge "${prefix}_days_left" "$days" "Whole days until then."
    gauge "${prefix}_warning" "$1" "Whether that is less than certificate.warn_before."
}

# Logs the lifetime of the served certificate when it changes, when its level changes, and once a day.
report() {
    read_certificate "$(served_certificate)" || return
    judge_certificate
    now=$(date +%s)
    if [ "$serial $level" != "$reported" ] || [ $((now - reported_at)) -ge 86400 ]; then
        say "$level" "$sentence"
        reported="$serial $level" reported_at=$now
    fi
    warning=1
    if [ "$level" = notice ]; then
        warning=0
    fi
    file=$EDGE_METRICS/certificate.prom
    { numbers "$warning" > "$file.new" && chmod 0644 "$file.new" && mv "$file.new" "$file"; } 2> /dev/null
}

# Nginx starts another worker for one that was killed. But the limits of connections and Nginx's metrics are in memory
# that its workers share, and still count the connections that the worker had: its clients would be refused for ever. So
# Nginx starts again, at most once a minute, and the time is noted.
restart_after_killed_worker() {
    if [ ! -s "$EDGE_ALERTS" ] || [ $(($(date +%s) - started)) -lt "${EDGE_RESTART_AFTER:-60}" ]; then
        return
    fi
    if killed=$(grep 'worker process [0-9]* exited on signal' "$EDGE_ALERTS" | tail -n 1) && [ -n "$killed" ]; then
        date +%s >> "$EDGE_METRICS/killed_workers"
        echo "$(date '+%Y/%m/%d %H:%M:%S') [error] nginx: starts again, since a worker was killed, whose connections would" \
            "count for ever: ${killed#*] }" >&3
        kill -TERM 1
    fi
}

# Checks each second by default. Retries a failure after 60 checks, and logs it once.
watch() {
    umask 077
    pause=${EDGE_PAUSE:-1}
    exec 3>&2
    until [ -n "$(served_generation)" ]; do
        sleep 0.2
    done
    seen='' said='' reported='' reported_at=0 retry_in=0 report_in=0 metrics_in=0
    started=$(date +%s)
    while :; do
        current=$(fingerprint)
        if [ "$current" != "$seen" ] || [ "$retry_in" -eq 1 ]; then
            words=$(apply 2>&1)
            case $? in
                0)
                    seen=$current said='' retry_in=0 report_in=0
                    ;;
                75) ;;
                *)
                    seen=$current retry_in=60
                    if [ "$words" != "$said" ]; then
                        say error "$words"
                    fi
                    said=$words
                    ;;
            esac
        fi
        if [ "$report_in" -le 0 ]; then
            report_in=600
            report || report_in=60
        fi
        report_in=$((report_in - 1))
        if [ "$metrics_in" -le 0 ]; then
            metrics_in=10
            write_metrics
        fi
        metrics_in=$((metrics_in - 1))
        restart_after_killed_worker
        if [ "$retry_in" -gt 1 ]; then
            retry_in=$((retry_in - 1))
        fi
        sleep "$pause"
    done
}
