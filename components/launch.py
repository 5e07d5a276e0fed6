"""Starts Open WebUI inside its container: gives it its environment and the saved settings that its stack owns.

Runs there with the image's own Python and nothing of this program beside it: `launch.py DIRECTORY COMMAND…`, where
DIRECTORY holds environment.json. Open WebUI copies many variables into its database at its first start and ignores
them from then on. So every saved setting whose variable the stack sets is forgotten before each start, and Open WebUI
takes it from the environment again; what only the admin panel knows stays. A setting that the stack no longer names is
forgotten once more and then belongs to the admin panel.
"""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MIGRATE = """
import sys
from alembic import command
from alembic.config import Config
config = Config(sys.argv[1] + "/alembic.ini")
config.set_main_option("script_location", sys.argv[1] + "/migrations")
command.upgrade(config, "head")
"""
OWNED_BEFORE = "open-webui-edge-settings.json"


def main(directory: Path, command: list[str]) -> None:
    """Prepare the environment and the saved settings, then become the image's own command."""
    # The official image finds the package in its working directory, and nowhere else.
    sys.path.insert(0, str(Path.cwd()))
    given = json.loads((directory / "environment.json").read_text())
    os.environ.update(given["environment"])
    package = package_directory()
    owned = set(given["saved_settings"]) | saved_settings_of(package / "config.py", set(given["environment"]))
    write_saved_settings(package, owned, given["saved_settings"])
    os.execvp(command[0], command)  # noqa: S606 - becoming it is the point


def package_directory() -> Path:
    """Return the folder of the open_webui package, without importing it (that takes seconds)."""
    spec = importlib.util.find_spec("open_webui")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("launch: this image holds no open_webui package; name one that does in images.registry")
    return Path(spec.submodule_search_locations[0])


def saved_settings_of(source: Path, variables: set[str]) -> set[str]:
    """Return the keys of saved settings whose first value comes from one of `variables`.

    Read from the version that runs: its config.py assigns `NAME = … os.getenv("VARIABLE") …` and collects
    `DEFAULT_CONFIG = {"some.key": NAME}`.
    """
    tree = ast.parse(source.read_text())
    reads: dict[str, set[str]] = {}
    uses: dict[str, set[str]] = {}
    collected: ast.Dict | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            target, value = node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            target, value = node.target.id, node.value
        else:
            continue
        reads.setdefault(target, set()).update(_variables_read(value))
        uses.setdefault(target, set()).update(_names_used(value) - {target})
        if target == "DEFAULT_CONFIG" and isinstance(value, ast.Dict):
            collected = value
    if collected is None:
        sys.exit(f"launch: {source} does not say which settings it saves; this version of Open WebUI is not supported")
    return {
        str(key.value)
        for key, value in zip(collected.keys, collected.values, strict=True)
        if isinstance(key, ast.Constant)
        and variables & (set(_variables_read(value)) | _closure(_names_used(value), reads, uses))
    }


def _variables_read(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and ast.unparse(call.func) in {"os.getenv", "os.environ.get"}
            and call.args
            and isinstance(call.args[0], ast.Constant)
        ):
            yield str(call.args[0].value)


def _names_used(node: ast.AST) -> set[str]:
    """Names in an expression, but not those in the fallback of a getenv: that is another setting's variable."""
    names: set[str] = set()
    pending: list[ast.AST] = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, ast.Name):
            names.add(current.id)
        if isinstance(current, ast.Call) and ast.unparse(current.func) in {"os.getenv", "os.environ.get"}:
            continue
        pending.extend(ast.iter_child_nodes(current))
    return names


def _closure(names: set[str], reads: dict[str, set[str]], uses: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    pending = list(names)
    variables: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            variables |= reads.get(name, set())
            pending.extend(uses.get(name, ()))
    return variables


def write_saved_settings(package: Path, owned: set[str], exact: dict[str, object]) -> None:
    """Forget the settings that the stack owns or owned before, and write those that no variable can carry."""
    # Open WebUI's own dependency, present wherever it runs.
    import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    data = Path(os.environ.get("DATA_DIR") or package.parent / "data")
    remembered = data / OWNED_BEFORE
    owned_before = set(json.loads(remembered.read_text())) if remembered.exists() else set[str]()
    engine = sqlalchemy.create_engine(os.environ.get("DATABASE_URL") or f"sqlite:///{data}/webui.db")
    if not _has_current_table(sqlalchemy.inspect(engine)):
        subprocess.run([sys.executable, "-c", MIGRATE, str(package)], check=True)  # noqa: S603 - our own words
    forget = sqlalchemy.text("DELETE FROM config WHERE key = :key")
    write = sqlalchemy.text("INSERT INTO config (key, value, updated_at) VALUES (:key, :value, :now)")
    with engine.begin() as connection:
        for key in sorted(owned | owned_before):
            connection.execute(forget, {"key": key})
        for key, value in sorted(exact.items()):
            connection.execute(write, {"key": key, "value": json.dumps(value), "now": int(time.time())})
    engine.dispose()
    unfinished = remembered.with_suffix(".new")
    unfinished.write_text(json.dumps(sorted(owned)))
    unfinished.replace(remembered)
    print(f"launch: {len(owned)} saved settings come from the stack", flush=True)  # noqa: T201 - the container's log


def _has_current_table(inspector) -> bool:  # noqa: ANN001 # pyright: ignore[reportMissingParameterType, reportUnknownParameterType] - sqlalchemy is not among our own packages
    if not inspector.has_table("config"):  # pyright: ignore[reportUnknownMemberType]
        return False
    columns = {column["name"] for column in inspector.get_columns("config")}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return "key" in columns


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
