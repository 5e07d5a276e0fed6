"""A minimal AWS client, which signs requests with the instance's role: images come without one.

AWS_ENDPOINT_URL, AWS_EC2_METADATA_SERVICE_ENDPOINT and AWS_REGION have the same meaning as for AWS's own clients.
"""

import datetime as dt
import hashlib
import hmac
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping

_METADATA = "http://169.254.169.254"
_REQUEST_TIMEOUT = 10
# Never through a proxy: the metadata service identifies the instance by its connection.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def metadata(path: str) -> str:
    """Return a value of the metadata service (version 2)."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _METADATA).rstrip("/")
    token = _fetch(f"{base}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    return _fetch(f"{base}/latest/meta-data/{path}", "GET", {"X-aws-ec2-metadata-token": token})


def _fetch(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - no file: root configures the URL
    with _direct.open(request, timeout=_REQUEST_TIMEOUT) as answer:
        return answer.read().decode()


def call(service: str, headers: dict[str, str], body: bytes) -> bytes:
    """Send a POST to a service of the instance's region, and return the answer.

    Raises:
        OSError: the service does not answer, or refused it: then the text is its response in one line.
        ValueError: the response is malformed.

    """
    region = os.environ.get("AWS_REGION") or metadata("placement/region")
    url = os.environ.get("AWS_ENDPOINT_URL") or f"https://{service}.{region}.{metadata('services/domain')}"
    role = metadata("iam/security-credentials/").split()[0]
    keys = json.loads(metadata(f"iam/security-credentials/{role}"))
    request = urllib.request.Request(f"{url.rstrip('/')}/", data=body, headers=headers)  # noqa: S310 - no file: root configures the URL
    sign(request, service, region, keys, dt.datetime.now(dt.UTC))
    try:
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT) as answer:  # noqa: S310 - no file: root configures the URL
            return answer.read()
    except urllib.error.HTTPError as error:
        words = " ".join(error.read().decode(errors="replace").split())
        raise OSError(f"{service} answers {error.code}: {words[:500]}") from None


def sign(request: urllib.request.Request, service: str, region: str, keys: Mapping[str, str], now: dt.datetime) -> None:
    """Sign a POST to the path / with Signature Version 4."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    request.add_header("Host", request.host)
    request.add_header("X-Amz-Date", moment)
    request.add_header("X-Amz-Security-Token", keys["Token"])
    headers = {name.lower(): value for name, value in request.header_items()}
    names = ";".join(sorted(headers))
    canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    body = request.data if isinstance(request.data, bytes) else b""
    canonical_request = f"POST\n/\n\n{canonical}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    string_to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical_request.encode()).hexdigest()}"
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, string_to_sign.encode(), "sha256").hex()
    credential = f"{keys['AccessKeyId']}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    request.add_header("Authorization", authorization)
