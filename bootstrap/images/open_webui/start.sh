#!/usr/bin/env bash
# Starts Open WebUI as the official image's start.sh does: the secret key comes from the environment, from a file, or is made once.
set -euo pipefail
cd "$(dirname "$0")"

if [ -n "${WEBUI_SECRET_KEY_FILE:-}" ]; then
  key_file=$WEBUI_SECRET_KEY_FILE
else
  key_file=.webui_secret_key
fi
if [ -z "${WEBUI_SECRET_KEY:-}${WEBUI_JWT_SECRET_KEY:-}" ]; then
  if [ ! -s "$key_file" ]; then
    (umask 077 && head -c 32 /dev/urandom | base64 -w 0 >"$key_file")
  fi
  WEBUI_SECRET_KEY=$(cat "$key_file")
  export WEBUI_SECRET_KEY
fi

exec open-webui serve --host "${HOST:-0.0.0.0}" --port "${PORT:-8080}"
