# Metrics of the proxy's container, in a file that Nginx appends to its own.

gauge() {
    printf '# HELP %s %s\n# TYPE %s gauge\n%s %s\n' "$1" "$3" "$1" "$1" "$2"
}

# Memory in use without reclaimable page cache, and the limit: from control groups of version 2 or 1.
memory() {
    group=/sys/fs/cgroup
    if [ -e "$group/memory.current" ]; then
        used=$(cat "$group/memory.current") limit=$(cat "$group/memory.max") idle=inactive_file
    else
        group=$group/memory idle=total_inactive_file
        used=$(cat "$group/memory.usage_in_bytes") limit=$(cat "$group/memory.limit_in_bytes")
    fi
    idle=$(sed -n "s/^$idle //p" "$group/memory.stat")
    gauge open_webui_edge_container_memory_bytes $((used - idle)) "Memory in use that is not given back at once."
    if [ "$limit" != max ]; then
        gauge open_webui_edge_container_memory_limit_bytes "$limit" "What it may use."
    fi
}

write_metrics() {
    file=$EDGE_METRICS/figures.prom
    {
        gauge open_webui_edge_container_start_time_seconds "$started" "When it started."
        memory
        : >> "$EDGE_METRICS/killed_workers"
        gauge open_webui_edge_killed_workers "$(wc -l < "$EDGE_METRICS/killed_workers")" \
            "How often it started again since a worker was killed."
        cat "$EDGE_METRICS/certificate.prom" || true
        # Certbot's metric is obsolete once certificates come from elsewhere.
        if [ "$(cat current/certificate_source)" = offered ]; then
            cat "$EDGE_CERTIFICATES/renewal.prom" || true
        fi
    } > "$file.new" 2> /dev/null && chmod 0644 "$file.new" && mv "$file.new" "$file"
    # Truncated and not rotated: Nginx appends to the open file. The signal to reopen logs would make Nginx lose the
    # permission to open its standard output at the next reload.
    requests=$EDGE_METRICS/requests.log
    if [ "$(stat --format=%s "$requests" 2> /dev/null || echo 0)" -gt "${EDGE_REQUESTS_MAX:-16777216}" ]; then
        : > "$requests"
    fi
}
