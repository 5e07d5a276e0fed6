"""Reports the running tasks of Open WebUI's own process; read-only.

An answer that reaches a browser over Socket.IO is written by a task of the process that received the request. Only that
process knows its own tasks: what Open WebUI stores of them in Redis does not name the process. Python loads this file
by itself, as `sitecustomize`. It waits for the import of the module that holds the tasks, and on SIGUSR1 writes their
ids to a file.
"""

import importlib.abc
import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType

TASKS = "open_webui.tasks"
_FOLDER = Path(__file__).parent
PROCESS_FILE = _FOLDER / "process"
"""Holds the process id."""
REPORT_FILE = _FOLDER / "running"
"""Holds the ids of the running tasks, one per line."""


class _ImportHook(importlib.abc.MetaPathFinder):
    """Installs the signal handler when the tasks' module is imported, and leaves the import to the other finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname == TASKS:
            sys.meta_path.remove(self)
            signal.signal(signal.SIGUSR1, _report)
            _write(PROCESS_FILE, str(os.getpid()))
        return None


def _report(_number: int, _frame: FrameType | None) -> None:
    module = sys.modules.get(TASKS)
    _write(REPORT_FILE, "".join(f"{name}\n" for name in tuple(getattr(module, "tasks", ()))))


def _write(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.touch(0o600)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


sys.meta_path.insert(0, _ImportHook())
