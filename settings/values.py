"""The kinds of value that a setting can have: durations, sizes, host names, addresses, URLs.

Each refuses what it cannot mean with a sentence that says what to write instead. What reaches Nginx, a container's
environment or a certificate is safe there because of its kind, so that nothing downstream quotes or checks again.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from open_webui_edge.settings.faults import Fault, FaultGroup, LeakedSecretError

# Nine digits: more is no duration, and no number that every machine can hold.
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)", re.ASCII)
# The largest first.
_DURATION_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_BYTES = re.compile(r"(\d{1,9}) ?(KiB|MiB|GiB)", re.ASCII)
_BYTES_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
# RFC 1123 section 2.1 (letters, digits, hyphens, 63 octets a label) and RFC 1035 section 3.1 (255 on the wire).
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST_NAME_LENGTH = 253
_PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
_URL_TOKEN = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!&()*+,=%-]+")
# A container's name may have underscores, which no host's has.
_SERVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")
_PATH_MAX = 512
_REGION = r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}"
_LIMITED_BROADCAST = ipaddress.ip_network("255.255.255.255")
# What a policy header is made of: printable ASCII; Nginx would read a dollar as the beginning of a variable.
_HEADER_VALUE = re.compile(r"[ -#%-~]+")
HEADER_VALUE_MAX = 4000
"""Characters of a header's value as it is written for Nginx, which reads none of 4096 or more (NGX_CONF_BUFFER)."""
# The same holds for a URL with what is added to it.
_URL_MAX = 2048


class Settings(BaseModel):
    """A part of a stack file: plain, frozen values."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    def _faults(self) -> Iterator[Fault]:
        """Return what these settings, each valid by itself, may not say together; paths are relative to them."""
        yield from ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_all(self._faults())
        return self


def raise_all(faults: Iterable[Fault]) -> None:
    """Raise all faults at once, if there are any."""
    if listed := list(faults):
        raise FaultGroup(listed)


def parse_duration(value: object) -> timedelta:
    """Read a number and a unit (ms, s, m, h, d), such as 90s; raise ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a duration; write a number and a unit, such as 90s or 1h")
    return int(match[1]) * _DURATION_UNITS[match[2]]


def write_duration(value: timedelta) -> str:
    """Write a duration in its largest whole unit: 90s, 1h. Nginx reads it the same way."""
    for name, unit in _DURATION_UNITS.items():
        if value and not value % unit:
            return f"{value // unit}{name}"
    return "0s"


def parse_bytes(value: object) -> int:
    """Read a number and a binary unit (KiB, MiB, GiB), such as 100MiB; raise ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("has no unit; write a number and KiB, MiB or GiB, such as 100MiB")  # noqa: TRY004 - pydantic collects ValueError
    match = _BYTES.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a size; write a number and KiB, MiB or GiB, such as 100MiB")
    return int(match[1]) * _BYTES_UNITS[match[2]]


def write_bytes(value: int) -> str:
    """Write a size in its largest whole binary unit: 100MiB."""
    return next(f"{value // unit}{name}" for name, unit in _BYTES_UNITS.items() if value % unit == 0)


def require(is_allowed: Callable[[Any], object], message: str, *, leaks: bool = False) -> AfterValidator:
    """Allow the values for which `is_allowed` is true. It gets a secret as text.

    No message repeats a secret, nor a value that `leaks` one if it is not allowed.
    """

    def check(value: object) -> object:
        secret = isinstance(value, SecretStr)
        if not is_allowed(value.get_secret_value() if secret else value):
            raise LeakedSecretError(message) if secret or leaks else ValueError(message)
        return value

    return AfterValidator(check)


def matching(pattern: str, message: str) -> AfterValidator:
    """Allow text that matches all of `pattern`."""
    return require(re.compile(pattern).fullmatch, message)


def between(low: str, high: str) -> AfterValidator:
    """Allow durations, or sizes, from `low` to `high`, both included."""
    parse = parse_bytes if low.endswith("B") else parse_duration
    least, most = parse(low), parse(high)
    return require(lambda value: least <= value <= most, f"is out of range; allowed is {low} to {high}")


def _host_name(value: str) -> str:
    name = value.lower()
    if "/" in name or ":" in name:
        raise ValueError(
            "is not a host name; write it without scheme, port or path (Open WebUI cannot be served below a path)",
        )
    if not name.isascii():
        raise ValueError("is not a host name in ASCII; write its punycode form (xn--…)")
    labels = name.split(".")
    if len(name) > _HOST_NAME_LENGTH or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError("is not a host name; write one such as chat.example.com")
    if labels[-1].isdigit():
        raise ValueError("is neither a host name nor an IP address; write one such as chat.example.com or 192.0.2.10")
    return name


def _host(value: str) -> str:
    if "%" in value:
        raise ValueError("contains an interface of one machine (%…); write an address without it")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return _host_name(value)


def _ipv4_address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError(
            "is not an IPv4 address; write one of this host, such as 127.0.0.1, or 0.0.0.0 for all",
        ) from None


def _check_url(value: str, about_a_login: str, *, fragment: bool = False) -> None:
    if "@" in value:
        raise LeakedSecretError(f"contains a user name or password{about_a_login}")
    if not fragment:
        _without_fragment(value)
    if len(value) > _URL_MAX:
        raise ValueError(f"has {len(value)} characters, but at most {_URL_MAX} are allowed; shorten it")
    if not _URL_TOKEN.fullmatch(value):
        raise ValueError("is not a URL; percent-encode spaces, quotes, control characters and ; $ { }")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL; write one such as https://api.example.com/v1") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("is not an http or https URL; write one such as https://api.example.com/v1")


def _without_fragment(value: str) -> str:
    if "#" in value:
        raise ValueError("contains a fragment, which is never sent to a server; remove # and the text after it")
    return value


def _proxy_url(value: str) -> str:
    _check_url(value, "; write them in username and password")
    parts = urlsplit(value)
    if parts.scheme != "http" or parts.path.strip("/") or parts.query:
        raise ValueError("is not the URL of a proxy; write http://, its host and its port, without a path")
    return value.rstrip("/")


def _http_url(value: str) -> str:
    _check_url(value, "; write the secret in api_key", fragment=True)
    return value.rstrip("/")


def _https_url(value: str) -> str:
    _check_url(value, ", which would never be sent; remove them")
    if urlsplit(value).scheme != "https":
        raise ValueError("is not an https URL, so its responses could be forged; write https://…")
    return value


def _service_url(value: str) -> str:
    _check_url(value, ", which Nginx would not send; remove them")
    parts = urlsplit(value)
    host = parts.hostname or ""
    address = is_ip_address(host)
    if not address and not _SERVICE_NAME.fullmatch(host):
        raise ValueError("contains an invalid host; write a URL such as http://wiki:3000")
    if address and parts.scheme == "https":
        raise ValueError("is an https URL with an IP address, but Nginx verifies names only; write a name")
    return value


def _certificates_pem(value: str) -> str:
    text = value.strip()
    if "PRIVATE KEY" in text:
        raise LeakedSecretError("contains a private key; write certificates only, and replace that key")
    if not text or _PEM_CERTIFICATE.sub("", text):
        words = "is not a list of certificates in PEM form (-----BEGIN CERTIFICATE----- …)"
        # A path is repeated; what looks like PEM is long.
        raise (LeakedSecretError if "-----" in text else ValueError)(words)
    for block in _PEM_CERTIFICATE.finditer(text):
        try:
            der = base64.b64decode("".join(block[1].split()), validate=True)
        except ValueError:
            der = b""
        # A certificate is a SEQUENCE (RFC 5280 section 4.1).
        if not der.startswith(b"\x30"):
            raise LeakedSecretError("contains a truncated or altered certificate; copy it again completely")
    return f"{text}\n"


def _certificate_name(value: str) -> str:
    wildcard = value.startswith("*.")
    name = value.removeprefix("*.")
    if "*" in name:
        raise ValueError("has a * in the wrong place; write it as the whole first label: *.example.com")
    if not wildcard:
        return _host(name)
    name = _host_name(name)
    if "." not in name:
        raise ValueError("covers a whole top-level domain; write one such as *.example.com")
    return f"*.{name}"


def _network(value: str) -> str:
    if "%" in value:
        raise ValueError("contains an interface of one machine (%…); write the address or network without it")
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(
            "is not a network; write an address or a network in CIDR form without host bits, such as 10.0.0.0/8 or"
            " 2001:db8::/32",
        ) from None
    if network.prefixlen == 0:
        raise ValueError("is the whole internet; list the addresses to allow")
    if network == _LIMITED_BROADCAST:
        # Nginx cannot tell it from a fault of its own, and does not start.
        raise ValueError("is the broadcast address (RFC 919); remove it")
    return str(network)


def _destination(value: str) -> str:
    if "/" not in value:
        return _host(value)
    network = ipaddress.ip_network(_network(value))
    return str(network.network_address if network.num_addresses == 1 else network)


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or port == 0
        or value.lower() != _serialized_origin(parts.scheme, host, port)
    ):
        raise ValueError(
            "is not an origin; write scheme, host and a non-default port, without a path, such as"
            " https://portal.example.com",
        )
    return _serialized_origin(parts.scheme, _host(host), port)


def _serialized_origin(scheme: str, host: str, port: int | None) -> str:
    if port == {"http": 80, "https": 443}[scheme]:
        raise ValueError(f"contains the default port of {scheme}, which browsers omit; remove :{port}")
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port is None else f":{port}")


def header_value_length(value: str) -> int:
    """Return how many characters a header's value has as it is written for Nginx: a quote and a backslash have two."""
    return len(value) + value.count('"') + value.count("\\")


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value) or value != value.strip():
        raise ValueError("is not a valid header value here; write one line of printable ASCII without $")
    length = header_value_length(value)
    if length > HEADER_VALUE_MAX:
        raise ValueError(
            f"has {length} characters (quotes and backslashes count twice), but at most {HEADER_VALUE_MAX} are allowed;"
            " shorten it",
        )
    return value


def regional_arn(service: str, resource: str, message: str) -> AfterValidator:
    """Allow the ARN of something in a region; `resource` is a pattern."""
    return matching(rf"arn:aws(-cn|-us-gov)?:{service}:{_REGION}:\d{{12}}:{resource}", message)


def region_of_arn(arn: str) -> str:
    """Return where the thing is that an ARN names."""
    return arn.split(":")[3]


def is_one_line(text: str) -> bool:
    """Whether `text` is printable, not empty, and without spaces around it."""
    return text.isprintable() and text == text.strip() != ""


def is_ip_address(host: str) -> bool:
    """Whether `host`, a value of kind Host, is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    return ipaddress.ip_address(address).is_loopback


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(write_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(ms|s|m|h|d)$", "examples": ["90s", "1h"]}),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(write_bytes),
    WithJsonSchema({"type": "string", "pattern": "^\\d+ ?(KiB|MiB|GiB)$", "examples": ["100MiB"]}),
]
Host = Annotated[str, AfterValidator(_host), WithJsonSchema({"type": "string", "format": "hostname"})]
Ipv4Address = Annotated[str, AfterValidator(_ipv4_address), WithJsonSchema({"type": "string", "format": "ipv4"})]
HttpUrl = Annotated[str, AfterValidator(_http_url), WithJsonSchema({"type": "string", "format": "uri"})]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url), WithJsonSchema({"type": "string", "format": "uri"})]
"""Of an HTTP proxy, without what it asks for."""
PageUrl = Annotated[HttpUrl, AfterValidator(_without_fragment)]
"""Where a browser is sent."""
ServiceUrl = Annotated[str, AfterValidator(_service_url), WithJsonSchema({"type": "string", "format": "uri"})]
"""Of a service that requests are passed to: where its path ends in /, that means something."""
HttpsUrl = Annotated[str, AfterValidator(_https_url), WithJsonSchema({"type": "string", "format": "uri"})]
# RFC 5321 leaves more room; this is what Open WebUI's own form and every provider accept.
_EMAIL = matching(
    r"[A-Za-z0-9.!#%&*+/=?^_|~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+",
    "is not an e-mail address; write one such as admin@example.com",
)
EmailAddress = Annotated[str, _EMAIL, AfterValidator(str.lower), WithJsonSchema({"type": "string", "format": "email"})]
CertificatesPem = Annotated[str, AfterValidator(_certificates_pem)]
"""One or more certificates, one behind the other."""
CertificateName = Annotated[str, AfterValidator(_certificate_name), WithJsonSchema({"type": "string"})]
"""What a certificate can be valid for: a host, or every name one label below one."""
Port = Annotated[int, Field(ge=1, le=65_535)]
Network = Annotated[str, AfterValidator(_network), WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]})]
"""An address or a network, in CIDR form."""
Destination = Annotated[str, AfterValidator(_destination), WithJsonSchema({"type": "string"})]
"""A host, or a network in CIDR form."""
Region = Annotated[str, matching(_REGION, "is not an AWS region; write one such as us-east-1")]
"""Of AWS."""
Origin = Annotated[str, AfterValidator(_origin), WithJsonSchema({"type": "string", "format": "uri"})]
"""As a browser writes it in the header Origin (RFC 6454)."""
# RFC 9110 section 5.1, without what Nginx drops (underscores) and what no header in use has.
_HEADER_NAME = matching(
    "[A-Za-z][A-Za-z0-9-]{0,127}", "is not a header name; write letters, digits and hyphens, such as X-User-Email"
)
HeaderName = Annotated[str, _HEADER_NAME]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
_SHORT_PATH = require(lambda path: len(path) <= _PATH_MAX, f"is too long; write at most {_PATH_MAX} characters")
# RFC 3986 section 3.3, without what must be percent-encoded there and what Nginx reads as its own (; and $).
_PATH = matching(
    "/[A-Za-z0-9._~!&'()*+,=:@/-]*",
    "is not a path; write one that begins with / and contains only letters, digits and -._~!&'()*+,=:@/",
)
_NORMALISED_PATH = require(
    lambda path: "//" not in path and not {".", ".."} & set(path.split("/")),
    "contains empty or dot segments, which no normalised request has; remove them",
)
RequestPath = Annotated[str, _SHORT_PATH, _PATH, _NORMALISED_PATH, WithJsonSchema({"type": "string", "pattern": "^/"})]
"""The path of a request, or its beginning."""
