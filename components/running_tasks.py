"""Runs inside Open WebUI's own process, and says which generations run there; reads, and changes nothing.

An answer that reaches a browser over Socket.IO is made by a task of the process that took the question. Only that
process knows which are its own: what Open WebUI keeps of them in Redis does not say whose they are. Python loads this
file by itself, as `sitecustomize`; it waits for the module that holds the tasks, and answers a signal with their names.
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
HERE = Path(__file__).parent
PROCESS = HERE / "process"
"""Holds the number of the process that answers."""
ANSWER = HERE / "running"
"""Holds its answer, a name a line."""


class _Watch(importlib.abc.MetaPathFinder):
    """Notices that the tasks get imported, and leaves the import to the others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname == TASKS:
            sys.meta_path.remove(self)
            signal.signal(signal.SIGUSR1, _answer)
            _write(PROCESS, str(os.getpid()))
        return None


def _answer(_number: int, _frame: FrameType | None) -> None:
    module = sys.modules.get(TASKS)
    _write(ANSWER, "".join(f"{name}\n" for name in tuple(getattr(module, "tasks", ()))))


def _write(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.touch(0o600)
    unfinished.write_text(text)
    unfinished.replace(path)


sys.meta_path.insert(0, _Watch())
