"""The application from within: saved settings, the secret key, what was put into its containers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, Severity
from open_webui_edge.diagnostics.inside.containers import HOPS
from open_webui_edge.diagnostics.inside.deployment import ExpectedContainer

_SHORT_KEY = 32
"""Bytes below which PyJWT warns (RFC 7518 section 3.2)."""
SETTINGS = {
    "webui.url": "site.domain",
    "rag.file.max_size": "proxy.limits.max_upload",
    "openai.api_base_urls": "models.providers",
    "openai.api_keys": "models.providers",
    "openai.api_configs": "models.providers",
    "openai.enable": "models.providers",
    "ollama.base_urls": "models.ollama",
    "ollama.enable": "models.ollama.mode",
    "ui.enable_signup": "open_webui.admin",
}
"""Saved setting -> what decides it in the stack file, where that is no variable."""


def judge_settings(facts: Mapping[str, Any], forget: Callable[[Sequence[str]], Remedy]) -> Iterator[Finding]:
    """Say which saved settings overrule what the stack says; `forget` would make some of them the stack's again."""
    for one in facts["differ"]:
        key, names = one["key"], one["variables"]
        setting = SETTINGS.get(key) or (f"open_webui.environment.{names[0]}" if len(names) == 1 else None)
        now = "another value" if one["now"] is None else repr(one["now"])
        value = None if one["stack"] in {None, ""} else one["stack"]
        stack = "" if value is None else f", and the stack says {value!r}"
        if key.startswith(("openai.", "ollama.")):
            problem, explains = Hop.MODELS.failure, ("models.*", "settings.openai.*", "settings.ollama.*", "stream.*")
        else:
            problem, explains = Hop.APPLICATION.warning, ("oauth.*",) if key == "webui.url" else ()
        yield problem(
            f"settings.{key}",
            f"The saved setting {key} is {now}{stack}: it was changed in the admin panel.",
            "What is saved overrules the stack file until the application starts the next time.",
            f"Write what you want as {setting or 'a setting'} in the stack file; `make doctor FIX=yes` makes the saved"
            " one the stack's again.",
            setting=setting,
            value=None if value is None else str(value),
            remedy=forget([key]),
            explains=explains,
        )
    if not facts["differ"]:
        yield Hop.APPLICATION.ok(
            "settings.saved", f"None of the {facts['owned']} saved settings that the stack owns overrules it."
        )


def judge_keys(keys: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Say whether all replicas sign with the same key, and one that is long enough.

    `keys` has of each container a mark that is the same where the key is, and the key's length in bytes.
    """
    marks = {facts["mark"] for facts in keys.values()}
    without = [name for name, facts in keys.items() if facts["mark"] is None]
    if without or len(marks) > 1:
        yield Hop.APPLICATION.failure(
            "secret.key",
            f"{', '.join(without)} has no WEBUI_SECRET_KEY from the stack."
            if without
            else f"{len(keys)} replicas have {len(marks)} different WEBUI_SECRET_KEYs.",
            "Everybody is signed out whenever it is recreated, and from replica to replica."
            if without
            else "People are signed out again and again: what one replica signs, another does not accept.",
            "`make up` gives all of them the key of the stack's state.",
            explains=("application.sign_in", "stream.*"),
        )
    elif any(facts["length"] < _SHORT_KEY for facts in keys.values()):
        yield Hop.APPLICATION.warning(
            "secret.key",
            f"The WEBUI_SECRET_KEY is shorter than {_SHORT_KEY} bytes.",
            "A short one can be guessed from a session's token, and then anybody can be made the administrator.",
            "Use a longer one; everybody signs in once more then.",
        )
    elif keys:
        yield Hop.APPLICATION.ok("secret.key", f"{len(keys)} replica(s) have the same key, long enough.")


def judge_files(
    made: Sequence[ExpectedContainer],
    sums: Mapping[str, Mapping[str, str]],
    remedy_for: Callable[[Sequence[ExpectedContainer]], Remedy | None],
) -> Iterator[Finding]:
    """Say whether what the stack put into containers is there as it was put.

    `sums` (container -> path -> SHA-256) has only those that could be asked.
    """
    changed = False
    for one in made:
        if one.name not in sums:
            continue
        differ = sorted(path for path, mark in one.files.items() if sums[one.name].get(path) != mark)
        if differ:
            changed = True
            yield Finding(
                "containers.files",
                Severity.FAILURE,
                HOPS.get(one.role, Hop.ENGINE),
                f"{one.name} does not have what the stack gave it: {', '.join(differ)} was changed by hand.",
                "With its next start it does what that says, and not what the stack file says.",
                "Write the change into the stack file, and recreate the container: `make doctor FIX=yes`.",
                remedy=remedy_for([one]),
            )
    if sums and not changed:
        yield Hop.ENGINE.ok("containers.files", f"{len(sums)} container(s) have what the stack gave them.")


def judge_sign_in(facts: Mapping[str, Any]) -> Finding:
    """Say whether the administrator that the stack made can sign in."""
    if "token" in facts:
        return Hop.APPLICATION.ok("application.sign_in", "The administrator can sign in.")
    if facts.get("status") in {400, 401, 403}:
        return Hop.APPLICATION.unknown(
            "application.sign_in",
            "The password of open_webui.admin is not (or no more) the administrator's, so what an account is needed for"
            " was not asked. Later it is changed in Open WebUI, and the stack does not hear of it.",
        )
    return Hop.APPLICATION.unknown("application.sign_in", f"The sign-in failed: {facts['fault']}.")
