"""Copies of the data, kept elsewhere."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from stacks.values import Duration, Settings, between_durations

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _time(value: str) -> str:
    if not _TIME.fullmatch(value):
        raise ValueError('is not a time of day; write hours and minutes in quotes, such as "03:00"')
    return value


def _whole_days(value: timedelta) -> timedelta:
    if value % timedelta(days=1):
        raise ValueError("is not a whole number of days; write one such as 35d")
    return value


TimeOfDay = Annotated[str, AfterValidator(_time), WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$"})]


class BackupSettings(Settings):
    """Copies of the data volume, made by AWS Backup."""

    enabled: bool = False
    """Whether there are any. With platform.kind aws-vm only. When it becomes false, no more are made, and those that
    are there stay in their vault until their time is over; the topic stays in the file, for the vault is kept."""

    at: TimeOfDay = "03:00"
    """When the daily one begins, in UTC, within the hour that follows."""

    keep: Annotated[Duration, between_durations("1d", "3650d"), AfterValidator(_whole_days)] = timedelta(days=35)
    """How long each is kept, in whole days."""
