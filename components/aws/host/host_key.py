"""Installs sshd's host key: `host_key.py FILE` fetches it from the parameter that HOST_KEY_PARAMETER names.

The instance's role may be there later than the instance, so it goes on asking for PATIENCE seconds. A key that is
there already stays when it cannot be fetched.
"""

import http.client
import json
import os
import sys
import time
from pathlib import Path

import aws_request

_PAUSE = 2


def parameter(name: str) -> str:
    """Return the value of a parameter, decrypted."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
    body = json.dumps({"Name": name, "WithDecryption": True}).encode()
    value = json.loads(aws_request.call("ssm", headers, body))["Parameter"]["Value"]
    if not value.startswith("-----BEGIN OPENSSH PRIVATE KEY-----"):
        raise ValueError(f"{name} holds no private key of OpenSSH's")
    return value


def install(key: str, target: Path) -> None:
    """Put the key in place by one rename, readable for root alone."""
    beside = target.with_name(f"{target.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key.rstrip()}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(target)


def main() -> None:
    """Fetch and install it, or end with one line that says why not."""
    name, target = os.environ["HOST_KEY_PARAMETER"], Path(sys.argv[1])
    deadline = time.monotonic() + (0 if target.exists() else float(os.environ.get("PATIENCE", "600")))
    while True:
        try:
            install(parameter(name), target)
        except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
            if time.monotonic() + _PAUSE < deadline:
                time.sleep(_PAUSE)
                continue
            if target.exists():
                sys.stderr.write(f"the host key of ssh stays as it is: {error}\n")
                return
            sys.exit(f"the host key of ssh cannot be fetched from {name}: {error}")
        return


if __name__ == "__main__":
    main()
