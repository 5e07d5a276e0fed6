"""`make certificate-dry-run`: everything that a renewal does, at the issuers' staging directories."""

from datetime import UTC, datetime

from . import trouble
from .issuing import Certbot, alone
from .log import out
from .settings import read


def rehearse() -> int:
    """Practise with each issuer that has a place for it; return 0 when all of them would give a certificate."""
    settings = read()
    certbot = Certbot(settings)
    practised = failed = 0
    for issuer in settings.issuers:
        if issuer.staging is None:
            out(
                f"{issuer.directory}: no staging directory is known, and a real attempt would count against its limits;"
                " certificate.lets_encrypt.staging_directory names one."
            )
            continue
        practised += 1
        with alone():
            ended = certbot.rehearse(issuer)
        if ended.succeeded:
            out(f"{issuer.staging}: the dry run succeeded for {', '.join(settings.names)}.")
            continue
        failed += 1
        asked = trouble.Asked(settings.names, settings.challenge, issuer.staging, datetime.now(UTC))
        why = trouble.explain(ended.output, ended.log, asked)
        out(f"{issuer.staging}: the dry run failed: {why.error}\n{why.hint}")
    return 0 if practised and not failed else 1
