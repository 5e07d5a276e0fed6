"""The metadata service of an instance: version 2 only, with the keys of a role."""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TOKEN = "a-token-of-this-test"


@dataclass
class MetadataService:
    """What an instance is told about itself."""

    url: str
    region: str
    keys: Mapping[str, str]
    """As AWS's STS gives them."""
    late: int = 0
    """How many more questions about the role are answered with 404: its profile comes later than the instance."""
    asked: list[str] = field(default_factory=list[str])
    """Paths, in order."""

    @classmethod
    @contextmanager
    def open(
        cls, region: str, keys: Mapping[str, str], *, late: int = 0, at: tuple[str, int] = ("127.0.0.1", 0)
    ) -> Generator["MetadataService"]:
        """Serve on a port of this machine until the block ends."""

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                del format, args

            def do_PUT(self) -> None:
                lifetime = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                known = self.path == "/latest/api/token" and lifetime is not None
                self._answer(200 if known else 400, _TOKEN if known else "")

            def do_GET(self) -> None:
                if self.headers["X-aws-ec2-metadata-token"] != _TOKEN:
                    self._answer(401, "")
                    return
                answer = service.answer(self.path.removeprefix("/latest/meta-data/"))
                self._answer(404 if answer is None else 200, answer or "")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        server = ThreadingHTTPServer(at, Handler)
        service = cls(f"http://{at[0]}:{server.server_port}", region, keys, late)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, path: str) -> str | None:
        """Return what is below meta-data/."""
        self.asked.append(path)
        if path.startswith("iam/") and self.late:
            self.late -= 1
            return None
        keys = {
            "Code": "Success",
            "AccessKeyId": self.keys["AccessKeyId"],
            "SecretAccessKey": self.keys["SecretAccessKey"],
            "Token": self.keys["SessionToken"],
            "Expiration": "2099-01-01T00:00:00Z",
        }
        return {
            "placement/region": self.region,
            "services/domain": "amazonaws.com",
            "iam/security-credentials/": "the-role",
            "iam/security-credentials/the-role": json.dumps(keys),
        }.get(path)
