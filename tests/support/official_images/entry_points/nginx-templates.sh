#!/bin/sh
# Stands in for 20-envsubst-on-templates.sh: a template becomes a file, its variables replaced by the environment's.
set -e
for template in /etc/nginx/templates/*.template; do
    if [ -e "$template" ]; then
        file=${template##*/}
        envsubst < "$template" > "/etc/nginx/conf.d/${file%.template}"
    fi
done
