"""Installs sshd's host key: `host_key.py FILE` fetches it from the SSM parameter HOST_KEY_PARAMETER.

The instance's role may become usable later than the instance, so this retries for PATIENCE seconds. If that fails, an
existing key stays.
"""

import http.client
import json
import os
import sys
import time
from pathlib import Path

import aws_request

_RETRY_INTERVAL = 2


def parameter(name: str) -> str:
    """Return the decrypted value of a parameter."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
    body = json.dumps({"Name": name, "WithDecryption": True}).encode()
    value = json.loads(aws_request.call("ssm", headers, body))["Parameter"]["Value"]
    if not value.startswith("-----BEGIN OPENSSH PRIVATE KEY-----"):
        raise ValueError(f"{name} holds no private key of OpenSSH's")
    return value


def install(key: str, target: Path) -> None:
    """Install the key atomically, readable for root only."""
    unfinished = target.with_name(f"{target.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{key.rstrip()}\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)


def main() -> None:
    """Fetch and install the key, or exit with one line that says why not."""
    name, target = os.environ["HOST_KEY_PARAMETER"], Path(sys.argv[1])
    deadline = time.monotonic() + (0 if target.exists() else float(os.environ.get("PATIENCE", "600")))
    while True:
        try:
            install(parameter(name), target)
        except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
            if time.monotonic() + _RETRY_INTERVAL < deadline:
                time.sleep(_RETRY_INTERVAL)
                continue
            if target.exists():
                sys.stderr.write(f"the host key of ssh stays as it is: {error}\n")
                return
            sys.exit(f"the host key of ssh cannot be fetched from {name}: {error}")
        return


if __name__ == "__main__":
    main()
