"""Who is told when something is wrong."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stacks.values import BelowError, EmailAddress, Settings


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


class MonitoringSettings(Settings):
    """Who is told when something is wrong. Numbers for Prometheus are `proxy.metrics`."""

    alarms: AlarmSettings = AlarmSettings()
    """Alarms of CloudWatch."""
