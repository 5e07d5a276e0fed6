"""`make certificate-dry-run`: a full renewal at the issuers' staging directories."""

from datetime import UTC, datetime

from . import acme_errors
from .certbot import Certbot, exclusive
from .log import out
from .settings import read


def dry_run() -> int:
    """Run a dry run at each issuer that has a staging directory; return 0 if all of them succeed."""
    settings = read()
    certbot = Certbot(settings)
    tested = failed = 0
    for issuer in settings.issuers:
        if issuer.staging is None:
            out(
                f"{issuer.directory}: no staging directory is known, and a real attempt would count against its rate"
                " limits; set certificate.lets_encrypt.staging_directory."
            )
            continue
        tested += 1
        with exclusive():
            result = certbot.dry_run(issuer)
        if result.succeeded:
            out(f"{issuer.staging}: the dry run succeeded for {', '.join(settings.names)}.")
            continue
        failed += 1
        request = acme_errors.Request(settings.names, settings.challenge, issuer.staging, datetime.now(UTC))
        why = acme_errors.explain(result.output, result.log, request)
        out(f"{issuer.staging}: the dry run failed: {why.error}\n{why.hint}")
    return 0 if tested and not failed else 1
