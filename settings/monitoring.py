"""Alarms, metrics and alerts."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from open_webui_edge.settings.faults import Fault, LeakedSecretError
from open_webui_edge.settings.values import Bytes, Duration, EmailAddress, PageUrl, Port, Settings, between, require


class AlarmSettings(Settings):
    """CloudWatch alarms: status of the instance, load balancer, disk, days until the certificate expires."""

    enabled: bool = False
    """Create CloudWatch alarms, with platform.kind aws-vm only."""

    email: EmailAddress | None = None
    """E-mail address to notify; AWS asks it once for confirmation. Default: none; alarms are visible in CloudWatch
    only."""

    disk_percent: Annotated[int, Field(ge=50, le=99)] = 85
    """Usage of the data disk, in percent, from which an alarm is raised."""

    def _faults(self) -> Iterator[Fault]:
        if self.email is not None and not self.enabled:
            yield Fault(
                "email", "is set, but enabled is false, so there are no alarms; remove email or write enabled: true"
            )


_WHOLE_SECONDS = require(
    lambda duration: not duration.microseconds, "is not a whole number of seconds; write one such as 15s"
)


def _without_password(value: object) -> object:
    if isinstance(value, str) and "@" in value:
        raise LeakedSecretError("contains a user name or password, which Prometheus would not use; remove them")
    return value


class PrometheusSettings(Settings):
    """A Prometheus next to the site, with alerting rules and a status page."""

    enabled: bool = False
    """Run Prometheus, with alerting rules and a status page."""

    port: Port = 9090
    """TCP port of Prometheus on 127.0.0.1 of the container host; no other address. Everybody who can reach it can read
    everything there."""

    interval: Annotated[Duration, between("1s", "1m"), _WHOLE_SECONDS] = timedelta(seconds=15)
    """Scrape interval, in whole seconds."""

    retention: Annotated[Duration, between("1h", "3650d"), _WHOLE_SECONDS] = timedelta(days=30)
    """Retention of metrics."""

    max_size: Annotated[Bytes, between("64MiB", "1024GiB")] = 1 << 30
    """Maximum disk space of the metrics; the oldest are deleted first."""

    memory: Annotated[Bytes, between("128MiB", "64GiB")] = 512 << 20
    """Memory limit of Prometheus."""

    alertmanagers: tuple[Annotated[PageUrl, BeforeValidator(_without_password)], ...] = ()
    """URLs of Alertmanagers that get the alerts, such as http://alertmanager.example.com:9093. Default: none; alerts
    are visible on the status page only."""

    def _faults(self) -> Iterator[Fault]:
        if self.alertmanagers and not self.enabled:
            yield Fault(
                "alertmanagers",
                "is set, but enabled is false, so there are no alerts; remove it or write enabled: true",
            )


class MonitoringSettings(Settings):
    """Alarms, metrics and alerts. `proxy.metrics` has metrics for an existing Prometheus."""

    alarms: AlarmSettings = AlarmSettings()
    """CloudWatch alarms."""

    prometheus: PrometheusSettings = PrometheusSettings()
    """Prometheus with alerts and a status page."""
