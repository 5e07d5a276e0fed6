"""A small OpenID provider: `oidc-provider-mock`, told one client and its people, over HTTPS, in a process of its own.

It can go away and come back with the same key, and with another secret for its client. Runs alone as well:

    python -m tests.support.oidc_provider SETTINGS.json
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.certificates import Issued, key_pem, rsa_key, server

ROOT = Path(__file__).parent.parent.parent
CLIENT_ID = "open-webui of the company"
# Nothing in it may mean anything on its way.
CLIENT_SECRET = "MARK5e2b-s3cret; with $all {of} 'it' \\ \"quoted\""


@dataclass
class OidcProvider:
    """The provider, while the block runs or until `stop`."""

    directory: Path
    """Where its files are."""
    address: str
    """Of this machine, to listen on."""
    host: str
    """The name by which browsers and the application know it."""
    port: int
    authority: Issued
    """Who vouches for it."""
    people: Mapping[str, Mapping[str, Any]]
    """Subject -> claims."""
    redirect_uri: str = ""
    """The only address that it sends anybody back to."""
    client_secret: str = CLIENT_SECRET
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def issuer(self) -> str:
        """Its address."""
        return f"https://{self.host}:{self.port}"

    @property
    def away(self) -> bool:
        """Whether it does not listen."""
        return self._process is None

    def __enter__(self) -> Self:
        """Come."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Go."""
        self.stop()

    def start(self) -> None:
        """Listen, and return once it answers."""
        signs_with = self.directory / "signs-with.pem"
        if not signs_with.exists():
            signs_with.write_text(key_pem(rsa_key()))
        issued = server([self.host], self.authority)
        settings = {
            "address": self.address,
            "port": self.port,
            "certificate": self._file("certificate.pem", issued.chain_pem),
            "key": self._file("key.pem", issued.key_pem),
            "signs_with": str(signs_with),
            "client_id": CLIENT_ID,
            "client_secret": self.client_secret,
            "redirect_uri": self.redirect_uri,
            "people": {subject: dict(claims) for subject, claims in self.people.items()},
        }
        given = self._file("settings.json", json.dumps(settings))
        with (self.directory / "provider.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", "tests.support.oidc_provider", given], cwd=ROOT, stdout=log, stderr=log
            )
        wait_until(self._answers, what=f"the provider at {self.issuer}", ignoring=(httpx.TransportError,))

    def stop(self) -> None:
        """Go away, as a machine that is switched off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _file(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def _answers(self) -> bool:
        url = f"https://{self.address}:{self.port}/.well-known/openid-configuration"
        return httpx.get(url, verify=False, trust_env=False).is_success  # noqa: S501 - whether anything answers


def serve(settings: Mapping[str, Any]) -> None:
    """Serve until this process ends."""
    # It says of itself that a part of it is old.
    warnings.simplefilter("ignore")
    import flask  # noqa: PLC0415
    import oidc_provider_mock  # noqa: PLC0415
    from authlib import jose  # noqa: PLC0415
    from oidc_provider_mock._storage import Client  # noqa: PLC0415
    from werkzeug.serving import make_server  # noqa: PLC0415

    people = [oidc_provider_mock.User(sub=sub, claims=claims) for sub, claims in settings["people"].items()]
    app = oidc_provider_mock.app(require_client_registration=True, user_claims=people)
    with app.test_request_context("/"):
        app.preprocess_request()
        storage = flask.g.oidc_provider_mock_storage
        storage.jwk = jose.RSAKey.import_key(Path(settings["signs_with"]).read_text(), {"is_private": True})
        storage.store_client(
            Client(
                id=settings["client_id"],
                secret=settings["client_secret"],
                redirect_uris=[settings["redirect_uri"]],
                allowed_scopes=Client.SCOPES_SUPPORTED,
                token_endpoint_auth_method="client_secret_basic",
            )
        )
    tls = (settings["certificate"], settings["key"])
    make_server(settings["address"], settings["port"], app, threaded=True, ssl_context=tls).serve_forever()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
