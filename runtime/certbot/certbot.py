"""Runs certbot, and reads the certificate that it stores."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from . import acme_errors, key_pair
from .acme_errors import AcmeFailure
from .handover import VOLUME, WEBROOT
from .key_pair import CertificateAndKey
from .settings import Issuer, Settings, read
from .state import PRIVATE, say, write

HOME = Path("/etc/letsencrypt")
_LINEAGE = "edge"
_RENEWAL = HOME / f"renewal/{_LINEAGE}.conf"
"""Certbot's renewal configuration."""
_RENEWAL_INFO = re.compile(r"^\[acme_renewal_info\]\n(?:(?!\[).*\n?)*", re.MULTILINE)
"""Its section with the issuer's renewal information (ARI), which holds the time of the next request for it."""
_LOG = Path("/var/log/letsencrypt/letsencrypt.log")
_SYSTEM_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem")
_FREE_SPACE_MARGIN = 4 << 20
"""Free bytes that are enough for a certificate and certbot's files."""
_NONCE_ATTEMPTS = 3
"""Runs of certbot while the issuer refuses nonces: certbot itself retries only once."""
_TERMINATION_TIMEOUT = 8
"""Seconds for certbot to remove its answers to challenges after SIGTERM."""


@dataclass(frozen=True)
class CertbotResult:
    """Result of a run of certbot."""

    succeeded: bool
    output: str
    log: str

    @property
    def has_ordered(self) -> bool:
        """Whether it ordered a certificate."""
        return re.search(r"^(Renewing|Requesting|Simulating) ", self.output, re.MULTILINE) is not None


class Certbot:
    """Certbot with these settings."""

    def __init__(self, settings: Settings) -> None:
        """Write the files that certbot reads; they hold secrets."""
        self._settings = settings
        # A dry run may begin while the loop does.
        with exclusive():
            outbound = self._settings.outbound.environment
            self._environment = {**os.environ, **outbound, **self._trust(), **self._route53()}
        self._is_first_run = True

    def issue(self, issuer: Issuer, *, renew: bool) -> CertbotResult:
        """Obtain a certificate, or leave one that is not due for renewal; `renew` renews it anyway."""
        when = "--force-renewal" if renew else "--keep-until-expiring"
        return self._run(issuer, issuer.directory, when)

    def dry_run(self, issuer: Issuer) -> CertbotResult:
        """Test issuance at the staging directory, which has its own rate limits."""
        if issuer.staging is None:
            raise ValueError(issuer.directory)
        return self._run(issuer, issuer.staging, "--dry-run")

    def explain(self, output: str, directory: str, log: str = "") -> AcmeFailure:
        """Return why an attempt at an issuer failed: the error of certbot's run, or one outside of it."""
        request = acme_errors.Request(self._settings.names, self._settings.challenge, directory, datetime.now(UTC))
        return acme_errors.explain(output, log, request)

    def lineage(self) -> CertificateAndKey | None:
        """Return certbot's certificate; remove one whose files a killed certbot left incomplete."""
        configuration, live, archive = _RENEWAL, HOME / "live" / _LINEAGE, HOME / "archive" / _LINEAGE
        if not any(path.exists() for path in (configuration, live, archive)):
            return None
        try:
            pair = key_pair.read((live / "fullchain.pem").read_bytes(), (live / "privkey.pem").read_bytes())
            if "[renewalparams]" in configuration.read_text(encoding="utf-8"):
                return pair
            why = "its settings are missing"
        except (FileNotFoundError, key_pair.UnusableError) as error:
            why = str(error)
        say(f"certbot's certificate is incomplete and is removed ({why})")
        configuration.unlink(missing_ok=True)
        for folder in (live, archive):
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def forget_account(self, issuer: Issuer) -> None:
        """Remove the accounts that no longer exist at an issuer."""
        for directory in {issuer.directory, issuer.staging} - {None}:
            parts = urlsplit(str(directory))
            shutil.rmtree(HOME / "accounts" / f"{parts.netloc}{parts.path}", ignore_errors=True)

    def _run(self, issuer: Issuer, directory: str, when: str) -> CertbotResult:
        settings = self._settings
        proof = ["--dns-route53"] if settings.challenge == "dns-01" else ["--webroot", "--webroot-path", str(WEBROOT)]
        words = ["certbot", "certonly", when, "--non-interactive", "--agree-tos", "--no-eff-email"]
        words += ["--config", self._secrets(issuer), "--server", directory]
        words += ["--cert-name", _LINEAGE, "--renew-with-new-domains"]
        words += ["--key-type", "ecdsa", "--elliptic-curve", "secp256r1", "--max-log-backups", "0", *proof]
        if issuer.profile is not None:
            words += ["--required-profile", issuer.profile]
        for name in settings.names:
            words += ["--domain", name]
        if self._is_first_run:
            # An interrupted run may have received the advice to renew already.
            _discard_renewal_info()
            self._is_first_run = False
        for _ in range(_NONCE_ATTEMPTS - 1):
            result = self._wait_for(words)
            if result.succeeded or not acme_errors.is_stale_nonce(result.log):
                return result
            say(f"{directory} refused a nonce repeatedly; retrying")
        return self._wait_for(words)

    def _wait_for(self, words: list[str]) -> CertbotResult:
        _LOG.unlink(missing_ok=True)
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            words,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            encoding="utf-8",
        )
        try:
            output, _ = process.communicate(timeout=self._settings.timing.certbot)
        except subprocess.TimeoutExpired:
            terminate(process)
            _discard_renewal_info()
            return CertbotResult(
                succeeded=False, output=f"certbot timed out after {self._settings.timing.certbot:g} s", log=""
            )
        finally:
            terminate(process)
        log = _LOG.read_text(errors="replace", encoding="utf-8") if _LOG.exists() else ""
        if process.returncode:
            _discard_renewal_info()
            for line in filter(None, map(str.strip, output.splitlines())):
                say(f"certbot: {line}")
        return CertbotResult(process.returncode == 0, output, log)

    def _secrets(self, issuer: Issuer) -> str:
        lines = ["register-unsafely-without-email = true" if issuer.email is None else f"email = {issuer.email}"]
        account = issuer.external_account
        if account:
            lines += [f"eab-kid = {account['key_id']}", f"eab-hmac-key = {account['hmac_key']}"]
        return _write_private("certbot.ini", "\n".join(lines))

    def _trust(self) -> Mapping[str, str]:
        """Return the variable that makes certbot trust all directories: an earlier issuer advises when to renew."""
        everywhere = self._settings.outbound.certificate_authorities
        directories = [issuer.directory_ca for issuer in self._settings.issuers if issuer.directory_ca is not None]
        given = [*directories, *([] if everywhere is None else [everywhere])]
        if not given:
            return {}
        roots = [path.read_text(encoding="utf-8") for path in map(Path, _SYSTEM_ROOTS) if path.exists()][:1]
        # boto3 reads it too.
        return {"REQUESTS_CA_BUNDLE": _write_private("authorities.pem", "\n".join([*roots, *given]))}

    def _route53(self) -> Mapping[str, str]:
        """Return the variables with the paths of AWS's configuration; without keys boto3 uses the machine's role."""
        given = self._settings.route53
        if given is None:
            return {}
        configuration = ["[default]", f"region = {given.region or 'us-east-1'}"]
        if given.endpoint is not None:
            configuration.append(f"endpoint_url = {given.endpoint}")
        variables = {"AWS_CONFIG_FILE": _write_private("aws.ini", "\n".join(configuration))}
        if given.access_key_id is not None and given.secret_access_key is not None:
            keys = [f"aws_access_key_id = {given.access_key_id}", f"aws_secret_access_key = {given.secret_access_key}"]
            variables["AWS_SHARED_CREDENTIALS_FILE"] = _write_private("keys.ini", "\n".join(["[default]", *keys]))
        return variables


def terminate(process: "subprocess.Popen[str]") -> None:
    """Stop a process if it still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=_TERMINATION_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def disk_error() -> str | None:
    """Return an error if the disks have no room for a certificate; None if they have."""
    for folder in (HOME, VOLUME):
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < _FREE_SPACE_MARGIN or (free.f_files and not free.f_favail):
            return f"[Errno 28] No space left on device: {folder}"
    return None


def _discard_renewal_info() -> None:
    """Make certbot ask the issuer again whether to renew.

    It records the time of its next request before it renews, and would treat a failed renewal as not due.
    """
    try:
        before = _RENEWAL.read_text(encoding="utf-8")
        after = _RENEWAL_INFO.sub("", before)
        if after != before:
            write(_RENEWAL, after.encode(), 0o600)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        say(f"{_RENEWAL} cannot be written: {error}")


@contextmanager
def exclusive() -> Generator[None]:
    """Hold the exclusive lock for running certbot in this container."""
    PRIVATE.mkdir(mode=0o700, exist_ok=True)
    with (PRIVATE / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_private(name: str, content: str) -> str:
    write(PRIVATE / name, f"{content}\n".encode(), 0o600)
    return str(PRIVATE / name)


def dry_run() -> int:
    """`make certificate-dry-run`: a full renewal at each staging directory; return 0 if all of them succeed."""
    settings = read()
    certbot = Certbot(settings)
    results: list[bool] = []
    for issuer in settings.issuers:
        if issuer.staging is None:
            _answer(
                f"{issuer.directory}: no staging directory is known, and a real attempt would count against its rate"
                " limits; set certificate.lets_encrypt.staging_directory."
            )
            continue
        with exclusive():
            result = certbot.dry_run(issuer)
        results.append(result.succeeded)
        if result.succeeded:
            _answer(f"{issuer.staging}: the dry run succeeded for {', '.join(settings.names)}.")
        else:
            why = certbot.explain(result.output, issuer.staging, result.log)
            _answer(f"{issuer.staging}: the dry run failed: {why.error}\n{why.hint}")
    return 0 if results and all(results) else 1


def _answer(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the command's output
