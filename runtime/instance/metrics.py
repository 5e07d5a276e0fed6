"""Publishes metrics to CloudWatch: how full the data volume is, and how long the certificate lasts.

STACK is the dimension, DATA_MOUNT the mount point of the volume. A measurement that fails is reported and left out.
"""

import datetime as dt
import http.client
import os
import socket
import ssl
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import aws_request

_NAMESPACE = "open-webui-edge"
_SECONDS = 10


def disk_used_percent(mount: str) -> float:
    """Return the percentage of usable space that is used, like `df`."""
    if not Path(mount).is_mount():
        raise OSError(f"{mount} is no mount point")
    status = os.statvfs(mount)
    used = status.f_blocks - status.f_bfree
    return 100 * used / (used + status.f_bavail)


def certificate_days_left(port: int) -> float:
    """Return the days until the certificate that is served on this machine expires."""
    try:
        certificate = served(port, b"")
    except OSError:
        # Behind a load balancer with the PROXY protocol, Nginx accepts nothing else.
        certificate = served(port, b"PROXY UNKNOWN\r\n")
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"]
    end_date = subprocess.run(  # noqa: S603 - our own arguments
        command, input=certificate, capture_output=True, check=True, timeout=_SECONDS
    ).stdout
    end = dt.datetime.fromtimestamp(
        ssl.cert_time_to_seconds(end_date.decode().strip().removeprefix("notAfter=")), dt.UTC
    )
    return (end - dt.datetime.now(dt.UTC)).total_seconds() / 86400


def served(port: int, first: bytes) -> bytes:
    """Return the served certificate without verifying it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(first)
        with context.wrap_socket(connection) as secured:
            certificate = secured.getpeercert(binary_form=True)
    if certificate is None:
        raise OSError("no certificate is served")
    return certificate


def publish(stack: str, measured: dict[str, tuple[float, str]]) -> None:
    """Publish measurements (name -> value, unit) to CloudWatch."""
    form = {"Action": "PutMetricData", "Version": "2010-08-01", "Namespace": _NAMESPACE}
    for number, (name, (value, unit)) in enumerate(measured.items(), start=1):
        member = f"MetricData.member.{number}"
        form[f"{member}.MetricName"] = name
        form[f"{member}.Value"] = f"{value:.2f}"
        form[f"{member}.Unit"] = unit
        form[f"{member}.Dimensions.member.1.Name"] = "Stack"
        form[f"{member}.Dimensions.member.1.Value"] = stack
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    aws_request.call("monitoring", headers, urllib.parse.urlencode(form).encode())


def main() -> None:
    """Measure and publish; fail if a measurement failed."""
    measurements: dict[str, tuple[Callable[[], float], str]] = {
        "disk_used_percent": (lambda: disk_used_percent(os.environ["DATA_MOUNT"]), "Percent"),
        "certificate_days_left": (lambda: certificate_days_left(int(os.environ.get("HTTPS_PORT", "443"))), "None"),
    }
    measured: dict[str, tuple[float, str]] = {}
    for name, (measure, unit) in measurements.items():
        try:
            measured[name] = (measure(), unit)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"{name} cannot be measured: {error}\n")
    try:
        if measured:
            publish(os.environ["STACK"], measured)
    except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
        sys.exit(f"nothing is published: {error}")
    sys.exit(len(measured) < len(measurements))


if __name__ == "__main__":
    main()
