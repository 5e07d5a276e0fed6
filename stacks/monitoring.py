"""Who is told when something is wrong, and what is counted."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from stacks.values import (
    BelowError,
    Bytes,
    Duration,
    EmailAddress,
    PageUrl,
    Port,
    SecretInsideError,
    Settings,
    between_bytes,
    between_durations,
)


class AlarmSettings(Settings):
    """Alarms of CloudWatch: the instance's status, the load balancer, disk, days until the certificate ends."""

    enabled: bool = False
    """Whether there are any. With platform.kind aws-vm only."""

    email: EmailAddress | None = None
    """Who is told; AWS asks there once whether that is wanted. Left out, an alarm is seen in CloudWatch alone."""

    disk_percent: Annotated[int, Field(ge=50, le=99)] = 85
    """How full the data volume may be."""

    @model_validator(mode="after")
    def _somebody_is_told_of_something(self) -> Self:
        if self.email is not None and not self.enabled:
            raise BelowError(
                "email", "is set, but enabled is false, so nobody is told; drop email or write enabled: true"
            )
        return self


def _whole_seconds(value: timedelta) -> timedelta:
    if value.microseconds:
        raise ValueError("is no whole number of seconds; write one such as 15s")
    return value


def _without_password(value: object) -> object:
    if isinstance(value, str) and "@" in value:
        raise SecretInsideError("carries a user name or password, and Prometheus is given none here; drop them")
    return value


class PrometheusSettings(Settings):
    """A Prometheus beside the site, with rules that say what is wrong, and a page that draws it all."""

    enabled: bool = False
    """Whether it runs."""

    port: Port = 9090
    """Port on 127.0.0.1 of the container host, and nowhere else: whoever reaches it reads everything there."""

    interval: Annotated[Duration, between_durations("1s", "1m"), AfterValidator(_whole_seconds)] = timedelta(seconds=15)
    """How often everything is asked."""

    retention: Annotated[Duration, between_durations("1h", "3650d"), AfterValidator(_whole_seconds)] = timedelta(
        days=30
    )
    """How long numbers are kept."""

    max_size: Annotated[Bytes, between_bytes("64MiB", "1024GiB")] = 1 << 30
    """What they may take of the disk; the oldest go first."""

    memory: Annotated[Bytes, between_bytes("128MiB", "64GiB")] = 512 << 20
    """Memory limit of Prometheus."""

    alertmanagers: tuple[Annotated[PageUrl, BeforeValidator(_without_password)], ...] = ()
    """Who passes alerts on to people, such as http://alertmanager.example.com:9093. Left out, the page shows them and
    nobody is told."""

    @model_validator(mode="after")
    def _somebody_has_something_to_pass_on(self) -> Self:
        if self.alertmanagers and not self.enabled:
            raise BelowError(
                "alertmanagers", "is set, but enabled is false, so there are no alerts; drop it or write enabled: true"
            )
        return self


class MonitoringSettings(Settings):
    """Who is told when something is wrong. Numbers for a Prometheus that one has already are `proxy.metrics`."""

    alarms: AlarmSettings = AlarmSettings()
    """Alarms of CloudWatch."""

    prometheus: PrometheusSettings = PrometheusSettings()
    """Metrics, alerts and the status page."""
