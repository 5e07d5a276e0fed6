"""What the container's log says."""


def say(words: str) -> None:
    """Write a line into the container's log."""
    print(f"certificate: {words}", flush=True)  # noqa: T201 - the container's log


def out(words: str) -> None:
    """Answer whoever called."""
    print(words, flush=True)  # noqa: T201 - that is where the answer goes
