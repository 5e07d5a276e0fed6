"""Alarms, metrics and alerts."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from open_webui_edge.settings.values import (
    Bytes,
    Duration,
    EmailAddress,
    FieldError,
    LeakedSecretError,
    PageUrl,
    Port,
    Settings,
    between_bytes,
    between_durations,
)


class AlarmSettings(Settings):
    """CloudWatch alarms: status of the instance, load balancer, disk, days until the certificate expires."""

    enabled: bool = False
    """Create CloudWatch alarms, with platform.kind aws-vm only."""

    email: EmailAddress | None = None
    """E-mail address to notify; AWS asks it once for confirmation. Default: none; alarms are visible in CloudWatch
    only."""

    disk_percent: Annotated[int, Field(ge=50, le=99)] = 85
    """Usage of the data disk, in percent, above which an alarm is raised."""

    @model_validator(mode="after")
    def _check_email(self) -> Self:
        if self.email is not None and not self.enabled:
            raise FieldError(
                "email", "is set, but enabled is false, so there are no alarms; remove email or write enabled: true"
            )
        return self


def _whole_seconds(value: timedelta) -> timedelta:
    if value.microseconds:
        raise ValueError("is not a whole number of seconds; write one such as 15s")
    return value


def _without_password(value: object) -> object:
    if isinstance(value, str) and "@" in value:
        raise LeakedSecretError("contains a user name or password, which Prometheus would not use; remove them")
    return value


class PrometheusSettings(Settings):
    """A Prometheus next to the site, with alerting rules and a status page."""

    enabled: bool = False
    """Run Prometheus."""

    port: Port = 9090
    """TCP port of Prometheus on 127.0.0.1 of the container host; no other address. Everybody who can reach it can read
    everything there."""

    interval: Annotated[Duration, between_durations("1s", "1m"), AfterValidator(_whole_seconds)] = timedelta(seconds=15)
    """Scrape interval, in whole seconds."""

    retention: Annotated[Duration, between_durations("1h", "3650d"), AfterValidator(_whole_seconds)] = timedelta(
        days=30
    )
    """Retention of metrics."""

    max_size: Annotated[Bytes, between_bytes("64MiB", "1024GiB")] = 1 << 30
    """Maximum disk space of the metrics; the oldest are deleted first."""

    memory: Annotated[Bytes, between_bytes("128MiB", "64GiB")] = 512 << 20
    """Memory limit of Prometheus."""

    alertmanagers: tuple[Annotated[PageUrl, BeforeValidator(_without_password)], ...] = ()
    """URLs of Alertmanagers that get the alerts, such as http://alertmanager.example.com:9093. Default: none; alerts
    are visible on the status page only."""

    @model_validator(mode="after")
    def _check_alertmanagers(self) -> Self:
        if self.alertmanagers and not self.enabled:
            raise FieldError(
                "alertmanagers",
                "is set, but enabled is false, so there are no alerts; remove it or write enabled: true",
            )
        return self


class MonitoringSettings(Settings):
    """Alarms, metrics and alerts. `proxy.metrics` has metrics for an existing Prometheus."""

    alarms: AlarmSettings = AlarmSettings()
    """CloudWatch alarms."""

    prometheus: PrometheusSettings = PrometheusSettings()
    """Prometheus with alerts and a status page."""
