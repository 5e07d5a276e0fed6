"""A restore that changes the stack's secret key: each one stays in the stack's file while anything may need it."""

from bootstrap import console, stack
from bootstrap.backup.deployed import Deployed
from bootstrap.console import step

SECRET_KEY = "open_webui.secret_key"  # noqa: S105 - the name of a setting
FORMER_SECRET_KEYS = "open_webui.former_secret_keys"  # noqa: S105 - likewise
WRITTEN, GENERATED = "written", "generated"
"""What a stack's own secret key is: in its file, or made by the program."""


def noted(deployed: Deployed) -> tuple[str, str]:
    """Return of what kind the stack's own key is, and that of the backup, where it may have been given that already."""
    task = deployed.filer("other_key")
    own, _, key = deployed.tasks.run(task, purpose="Asking for the secret key", shown=False).partition(" ")
    return own, key


def update_with(deployed: Deployed, key: str) -> None:
    """Have the stack use the key that the data belongs to: its file holds it from now on, encrypted."""
    target, tasks, current = deployed.target, deployed.tasks, _in_clear(deployed, SECRET_KEY)
    with step("secret key") as shown:
        note = deployed.filer("note_other_key", GENERATED if current is None else WRITTEN)
        tasks.run(note, purpose="Changing the secret key", shown=False)
        own, _ = noted(deployed)
        if current not in {None, key}:
            _give_up(deployed, str(current))
        _give_up_no_longer(deployed, key)
        target.set_secret(SECRET_KEY, key)
        shown.done(f"the backup's; it stands encrypted in the stack's file ({SECRET_KEY})")
    try:
        target.run("up", "--yes", "--skip-preview")
    except BaseException:
        have_own_again(deployed, key, own)
        console.say(
            f"Its own secret key is in the file again; `make up STACK={deployed.name}` has all replicas use it."
        )
        raise


def have_own_again(deployed: Deployed, key: str, own: str) -> None:
    """Put the key back that the stack had before it got that of a backup; what was saved under that stays readable."""
    if _in_clear(deployed, SECRET_KEY) != key:
        # It was not changed yet, or is back already.
        return
    given_up = _given_up(deployed)
    if own == GENERATED:
        # That one is known wherever another one is in use.
        deployed.target.unset(SECRET_KEY)
        deployed.target.set_secret(f"{FORMER_SECRET_KEYS}[{len(given_up)}]", key)
    elif given_up:
        # The last one: it was given up for this.
        deployed.target.set_secret(SECRET_KEY, given_up[-1])
        deployed.target.set_secret(f"{FORMER_SECRET_KEYS}[{len(given_up) - 1}]", key)


def _give_up(deployed: Deployed, own: str) -> None:
    """Have the stack's own key be the last of those that were given up, so that the file has it at each moment."""
    given_up = _given_up(deployed)
    if given_up[-1:] != [own]:
        deployed.target.set_secret(f"{FORMER_SECRET_KEYS}[{len(given_up)}]", own)
        if own in given_up:
            deployed.target.unset(f"{FORMER_SECRET_KEYS}[{given_up.index(own)}]")


def _give_up_no_longer(deployed: Deployed, key: str) -> None:
    """Drop a key from those that were given up: none may be both, and an earlier try may have left it there."""
    for index, given_up in reversed(list(enumerate(_given_up(deployed)))):
        if given_up == key:
            deployed.target.unset(f"{FORMER_SECRET_KEYS}[{index}]")


def _given_up(deployed: Deployed) -> list[str]:
    count = len(stack.setting(stack.settings_of(deployed.name), FORMER_SECRET_KEYS) or [])
    return [deployed.target.setting_in_clear(f"{FORMER_SECRET_KEYS}[{index}]") for index in range(count)]


def _in_clear(deployed: Deployed, path: str) -> str | None:
    there = stack.setting(stack.settings_of(deployed.name), path) is not None
    return deployed.target.setting_in_clear(path) if there else None
