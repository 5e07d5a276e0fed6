"""The container's log, and the output of its commands."""


def say(words: str) -> None:
    """Write a line into the container's log."""
    print(f"certificate: {words}", flush=True)  # noqa: T201 - the container's log


def out(words: str) -> None:
    """Print the result of a command."""
    print(words, flush=True)  # noqa: T201 - the command's output
