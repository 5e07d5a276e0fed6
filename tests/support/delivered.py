"""Programs as a container has them, in a folder."""

from pathlib import Path

from open_webui_edge.runtime import delivery


def deliver(folder: Path, *programs: str) -> Path:
    """Write programs below runtime/, such as open_webui/launch.py, into one folder; return the first one's file."""
    for program in programs:
        (folder / Path(program).name).write_text(delivery.program(program))
    return folder / Path(programs[0]).name
