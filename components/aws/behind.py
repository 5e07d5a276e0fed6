"""What stands between the internet and the instance."""

from enum import StrEnum


class Behind(StrEnum):
    """The kind of load balancer, if there is one."""

    NONE = "none"
    ALB = "alb"
    NLB = "nlb"
