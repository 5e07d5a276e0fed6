"""How certbot is run, and what it keeps."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import pair, trouble
from .log import say
from .offer import VOLUME, WEBROOT
from .pair import Pair
from .settings import Issuer, Settings
from .state import PRIVATE, write

HOME = Path("/etc/letsencrypt")
_LINEAGE = "edge"
_RENEWAL = HOME / f"renewal/{_LINEAGE}.conf"
"""How certbot renews it."""
_ADVICE = re.compile(r"^\[acme_renewal_info\]\n(?:(?!\[).*\n?)*", re.MULTILINE)
"""What it keeps there of the issuer's advice (ARI): until when not to ask for it again."""
_LOG = Path("/var/log/letsencrypt/letsencrypt.log")
_SYSTEM_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem")
_ROOM = 4 << 20
"""Bytes that a certificate with all that belongs to it never fills."""
_RUNS = 3
"""Of certbot in a row while nonces are refused: it asks anew once itself, and gives up when that one is refused too."""
_LAST_WORDS = 8
"""Seconds in which certbot takes its answers to challenges away, once it is told to end."""


@dataclass(frozen=True)
class Ended:
    """What a run of certbot came to."""

    succeeded: bool
    output: str
    log: str

    @property
    def ordered(self) -> bool:
        """Whether it came as far as asking for a certificate."""
        return re.search(r"^(Renewing|Requesting|Simulating) ", self.output, re.MULTILINE) is not None


class Certbot:
    """Certbot with these settings."""

    def __init__(self, settings: Settings) -> None:
        """Write the files that certbot reads; they hold secrets."""
        self._settings = settings
        PRIVATE.mkdir(mode=0o700, exist_ok=True)
        self._environment = {**os.environ, **self._trust(), **self._route53()}
        self._begins = True

    def issue(self, issuer: Issuer, *, renew: bool) -> Ended:
        """Obtain a certificate, or keep the one that is not due; `renew` renews that too."""
        when = "--force-renewal" if renew else "--keep-until-expiring"
        return self._run(issuer, issuer.directory, when)

    def rehearse(self, issuer: Issuer) -> Ended:
        """Do all but keep a certificate, where that burns no limit."""
        if issuer.staging is None:
            raise ValueError(issuer.directory)
        return self._run(issuer, issuer.staging, "--dry-run")

    def lineage(self) -> Pair | None:
        """Return the certificate that certbot keeps; one whose files a killed certbot left unfinished is removed."""
        configuration, live, archive = _RENEWAL, HOME / "live" / _LINEAGE, HOME / "archive" / _LINEAGE
        if not any(path.exists() for path in (configuration, live, archive)):
            return None
        try:
            found = pair.read((live / "fullchain.pem").read_bytes(), (live / "privkey.pem").read_bytes())
            if "[renewalparams]" in configuration.read_text():
                return found
            why = "its settings are missing"
        except (FileNotFoundError, pair.UnusableError) as error:
            why = str(error)
        say(f"what certbot kept is not whole and is removed ({why})")
        configuration.unlink(missing_ok=True)
        for folder in (live, archive):
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def forget_account(self, issuer: Issuer) -> None:
        """Remove the accounts at an issuer that has forgotten them."""
        for directory in {issuer.directory, issuer.staging} - {None}:
            parts = urlsplit(str(directory))
            shutil.rmtree(HOME / "accounts" / f"{parts.netloc}{parts.path}", ignore_errors=True)

    def _run(self, issuer: Issuer, directory: str, when: str) -> Ended:
        settings = self._settings
        proof = ["--dns-route53"] if settings.challenge == "dns-01" else ["--webroot", "--webroot-path", str(WEBROOT)]
        words = ["certbot", "certonly", when, "--non-interactive", "--agree-tos", "--no-eff-email"]
        words += ["--config", str(self._secrets(issuer)), "--server", directory]
        words += ["--cert-name", _LINEAGE, "--renew-with-new-domains"]
        words += ["--key-type", "ecdsa", "--elliptic-curve", "secp256r1", "--max-log-backups", "0", *proof]
        if issuer.profile is not None:
            words += ["--required-profile", issuer.profile]
        for name in settings.names:
            words += ["--domain", name]
        if self._begins:
            # One that was cut off may have heard that it is time.
            _ask_for_advice_again()
            self._begins = False
        for _ in range(_RUNS - 1):
            ended = self._wait_for(words)
            if ended.succeeded or not trouble.is_stale_nonce(ended.log):
                return ended
            say(f"{directory} refused a nonce again and again; asking once more")
        return self._wait_for(words)

    def _wait_for(self, words: list[str]) -> Ended:
        _LOG.unlink(missing_ok=True)
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            words,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            output, _ = process.communicate(timeout=self._settings.timing.certbot)
        except subprocess.TimeoutExpired:
            end(process)
            _ask_for_advice_again()
            return Ended(succeeded=False, output=f"certbot timed out after {self._settings.timing.certbot:g} s", log="")
        finally:
            end(process)
        log = _LOG.read_text(errors="replace") if _LOG.exists() else ""
        if process.returncode:
            _ask_for_advice_again()
            for line in filter(None, map(str.strip, output.splitlines())):
                say(f"certbot: {line}")
        return Ended(process.returncode == 0, output, log)

    def _secrets(self, issuer: Issuer) -> Path:
        lines = ["register-unsafely-without-email = true" if issuer.email is None else f"email = {issuer.email}"]
        if issuer.key_id is not None and issuer.hmac_key is not None:
            lines += [f"eab-kid = {issuer.key_id}", f"eab-hmac-key = {issuer.hmac_key}"]
        return _private("certbot.ini", "\n".join(lines))

    def _trust(self) -> Mapping[str, str]:
        """Return what makes certbot trust the directories: all at once: an earlier issuer says when to renew."""
        given = [issuer.directory_ca for issuer in self._settings.issuers if issuer.directory_ca is not None]
        if not given:
            return {}
        roots = [path.read_text() for path in map(Path, _SYSTEM_ROOTS) if path.exists()][:1]
        return {"REQUESTS_CA_BUNDLE": str(_private("authorities.pem", "\n".join([*roots, *given])))}

    def _route53(self) -> Mapping[str, str]:
        """Return what leads AWS's library to files of ours; without keys it asks the machine for its role."""
        given = self._settings.route53
        if given is None:
            return {}
        configuration = ["[default]", f"region = {given.region or 'us-east-1'}"]
        if given.endpoint is not None:
            configuration.append(f"endpoint_url = {given.endpoint}")
        variables = {"AWS_CONFIG_FILE": str(_private("aws.ini", "\n".join(configuration)))}
        if given.access_key_id is not None and given.secret_access_key is not None:
            keys = [f"aws_access_key_id = {given.access_key_id}", f"aws_secret_access_key = {given.secret_access_key}"]
            variables["AWS_SHARED_CREDENTIALS_FILE"] = str(_private("keys.ini", "\n".join(["[default]", *keys])))
        return variables


def end(process: "subprocess.Popen[str]") -> None:
    """End a process that may still run."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=_LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def full() -> str | None:
    """Return why a certificate could not be kept; None when there is room."""
    for folder in (HOME, VOLUME):
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < _ROOM or (free.f_files and not free.f_favail):
            return f"[Errno 28] No space left on device: {folder}"
    return None


def _ask_for_advice_again() -> None:
    """Have certbot ask the issuer whether to renew even if it did so lately.

    It notes the hour of the next question before it renews, and would take a failed renewal for one that is not due.
    """
    try:
        kept = _RENEWAL.read_text()
        rest = _ADVICE.sub("", kept)
        if rest != kept:
            write(_RENEWAL, rest.encode(), 0o600)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        say(f"{_RENEWAL} cannot be written: {error}")


@contextmanager
def alone() -> Generator[None]:
    """Wait for whoever runs certbot in this container, and keep others from it."""
    PRIVATE.mkdir(mode=0o700, exist_ok=True)
    with (PRIVATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _private(name: str, content: str) -> Path:
    file = PRIVATE / name
    file.touch(0o600)
    file.write_text(f"{content}\n")
    return file
