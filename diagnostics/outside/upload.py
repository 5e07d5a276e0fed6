"""How large a file passes? Nothing is sent but the announcement of its size."""

from collections.abc import Iterator

from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.outside import hops, http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_PATH = "/api/v1/files/"
_TOO_LARGE = "413"
_MEBIBYTE = 1 << 20
_ASKED = (2 * _MEBIBYTE, 20 * _MEBIBYTE, 100 * _MEBIBYTE, 1024 * _MEBIBYTE)
_SMALL = 20 * _MEBIBYTE
_SECONDS = 1.5


def refuses(subject: Subject, size: int) -> http_client.Answer | None:
    """Return the response that refuses a body of this size; None if it would be accepted.

    The head of a request names the size and waits for leave (RFC 9110 section 10.1.1). A proxy with a limit refuses at
    once; leave, a refusal for want of an account, and silence all mean that the size is none of its concern.
    """
    said = [
        ("Host", subject.authority),
        ("User-Agent", http_client.AGENT),
        ("Content-Type", "multipart/form-data; boundary=doctor"),
        ("Content-Length", str(size)),
        ("Expect", "100-continue"),
    ]
    with http_client.connection(subject, seconds=_SECONDS) as connected:
        lines = [f"POST {_PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in said), "", ""]
        try:
            connected.sendall("\r\n".join(lines).encode())
            head = connected.recv(1 << 16)
        except OSError:
            return None
    first, *fields = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    if first.split()[1:2] != [_TOO_LARGE]:
        return None
    headers = tuple((name, value.strip()) for name, _, value in (field.partition(":") for field in fields))
    return http_client.Answer(int(_TOO_LARGE), headers, b"")


def _upload(subject: Subject) -> Iterator[Finding]:
    promised = subject.expectations.max_upload
    sizes = (promised,) if promised is not None else _ASKED
    passed = 0
    for size in sizes:
        refusal = refuses(subject, size)
        if refusal is not None:
            yield _too_small(subject, refusal, passed, size, promised)
            return
        passed = size
    yield Hop.PROXY.ok("upload.size", f"A file of {_shown(passed)} passes.")


def _too_small(subject: Subject, refusal: http_client.Answer, passed: int, size: int, promised: int | None) -> Finding:
    who = hops.nearest(refusal)
    least = f", of {_shown(passed)} not" if passed else ""
    seen = f"{who} refuses a body of {_shown(size)} (413){least}."
    words = [product.upload for product in (*hops.on_the_way(subject), *hops.seen_in(refusal)) if product.upload]
    if promised is None and passed >= _SMALL:
        return Hop.PROXY.note("upload.size", seen, f"Larger files are refused. To change: {hops.NGINX_UPLOAD}.")
    outer = any(product.hop is Hop.OUTER_PROXY for product in hops.seen_in(refusal))
    fix = "; ".join(dict.fromkeys(words)) or hops.NGINX_UPLOAD
    if subject.of_a_stack:
        fix = (
            f"proxy.limits.max_upload says {_shown(promised or 0)}, so another proxy in front refuses it: there, {fix}"
        )
    return Finding(
        "upload.size",
        Severity.FAILURE if size <= _SMALL or promised is not None else Severity.WARNING,
        Hop.OUTER_PROXY if outer or subject.of_a_stack else Hop.PROXY,
        seen + (" Nginx's own limit is 1 MB." if not passed and promised is None else ""),
        "The upload is refused, and the page spins for ever.",
        f"Allow as much as RAG_FILE_MAX_SIZE does, or all (0): {fix}." if not subject.of_a_stack else f"{fix}.",
        setting="proxy.limits.max_upload",
        explains=("upload.*",),
    )


def _shown(size: int) -> str:
    return f"{size / (1 << 30):g} GiB" if size >= 1 << 30 else f"{size / _MEBIBYTE:g} MiB"


QUESTIONS = (Question("upload.size", Hop.PROXY, "upload", ("app.answers",), _upload, seconds=25),)
