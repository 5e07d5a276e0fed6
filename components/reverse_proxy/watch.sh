# Runs in the proxy's container as long as Nginx does: serves a certificate as soon as it is offered, and says how long
# the served one lasts.

say() {
    echo "$(date '+%Y/%m/%d %H:%M:%S') [$1] certificate: $2" >&3
}

# In one line, without what Nginx puts before its words: it is no emergency of the Nginx that runs.
in_short() {
    sed 's/^.*\[emerg\] \([0-9#]*: \)\{0,1\}//; /test failed$/d' | head -n 3 | tr '\n' ' '
}

# What decides whether there is anything to do: what is in force, and the offer.
state_of_things() {
    offered=$EDGE_CERTIFICATES/offered/current
    stat --format='%n %i %s %y %z' current "$offered/certificate.pem" "$offered/private_key.pem" 2>&1
}

# Serve what is in force, which whoever was interrupted may have left undone, and what is offered. If that cannot be,
# says why; ends with 75 while somebody else is at it.
settle() {
    lock -n || return 75
    if ! taken_up; then
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
    if ! words=$({ with_offer generations/offer.new current "$offer" && put_in_force generations/offer.new; } 2>&1); then
        rm -rf generations/offer.new
        echo "the one offered in ${offer##*/} is not taken, the one before is served on: $(echo "$words" | in_short)"
        return 1
    fi
    if ! taken_up; then
        point_to "$before"
        echo "the one offered in ${offer##*/} passed Nginx's test, but was not taken up within 30 seconds"
        return 1
    fi
    remove_others

    installed=$(openssl x509 -noout -serial -in current/tls/certificate.pem)
    attempt=0 in_a_row=0
    # Not just once: Nginx's processes of before, which are about to end, may take some more connections.
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

# Say how long the served one lasts, when it is another than before, when that turns bad, and once a day.
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

# Looks each second, unless somebody is in a hurry. What failed is tried again after 60 looks, and said once.
watch() {
    umask 077
    pause=${EDGE_PAUSE:-1}
    exec 3>&2
    until [ -n "$(served_generation)" ]; do
        sleep 0.2
    done
    seen='' said='' reported='' reported_at=0 retry_in=0 report_in=0 figures_in=0
    started=$(date +%s)
    while :; do
        state=$(state_of_things)
        if [ "$state" != "$seen" ] || [ "$retry_in" -eq 1 ]; then
            words=$(settle 2>&1)
            case $? in
                0)
                    seen=$state said='' retry_in=0 report_in=0
                    ;;
                75) ;;
                *)
                    seen=$state retry_in=60
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
        if [ "$figures_in" -le 0 ]; then
            figures_in=10
            figures
        fi
        figures_in=$((figures_in - 1))
        if [ "$retry_in" -gt 1 ]; then
            retry_in=$((retry_in - 1))
        fi
        sleep "$pause"
    done
}
