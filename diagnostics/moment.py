"""When something was, as those who wrote it down say."""

from datetime import UTC, datetime


def moment_of(value: object) -> datetime | None:
    """Read a time in the form of ISO 8601, in UTC where it says nothing else; None where it is none."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
