"""Which stacks are brought up on AWS, so that what may go together has gone together once."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product

from open_webui_edge.settings.aws import LoadBalancerKind


class Network(StrEnum):
    NEW = "new"
    EXISTING = "existing"


class Dns(StrEnum):
    CREATED = "created"
    EXISTING = "existing"
    NONE = "none"


class Certificate(StrEnum):
    SELF_SIGNED = "self-signed"
    LETS_ENCRYPT = "lets-encrypt"
    PROVIDED = "provided"
    ACM = "acm"
    """Asked for by the stack; by its ARN where the stack has no DNS to prove the names in."""


@dataclass(frozen=True)
class Combination:
    """What a stack on AWS chooses."""

    network: Network
    load_balancer: LoadBalancerKind
    dns: Dns
    certificate: Certificate

    @property
    def is_legal(self) -> bool:
        """An ALB terminates TLS with a certificate of ACM, which no other kind can use."""
        return (self.certificate is Certificate.ACM) == (self.load_balancer is LoadBalancerKind.ALB)

    def __str__(self) -> str:
        return f"{self.network} network, {self.load_balancer}, {self.dns} zone, {self.certificate}"

    @property
    def label(self) -> str:
        """Its name as that of a stack."""
        return "-".join(value for value in vars(self).values())

    @property
    def pairs(self) -> set[frozenset[tuple[str, str]]]:
        """Every two of its choices."""
        return {frozenset(pair) for pair in combinations(vars(self).items(), 2)}


EXAMPLES = {
    "staging": Combination(Network.NEW, LoadBalancerKind.NONE, Dns.EXISTING, Certificate.LETS_ENCRYPT),
    "production": Combination(Network.NEW, LoadBalancerKind.ALB, Dns.EXISTING, Certificate.ACM),
}
"""What the shipped examples choose."""

DEPLOYED = [
    Combination(Network.EXISTING, LoadBalancerKind.ALB, Dns.CREATED, Certificate.ACM),
    Combination(Network.EXISTING, LoadBalancerKind.ALB, Dns.NONE, Certificate.ACM),
    Combination(Network.NEW, LoadBalancerKind.NONE, Dns.CREATED, Certificate.SELF_SIGNED),
    Combination(Network.EXISTING, LoadBalancerKind.NONE, Dns.NONE, Certificate.PROVIDED),
    Combination(Network.NEW, LoadBalancerKind.NLB, Dns.CREATED, Certificate.PROVIDED),
    Combination(Network.EXISTING, LoadBalancerKind.NLB, Dns.EXISTING, Certificate.SELF_SIGNED),
    Combination(Network.NEW, LoadBalancerKind.NLB, Dns.NONE, Certificate.LETS_ENCRYPT),
]
"""With the examples they have every pair but those of a certificate with a zone or a network, for which there are
more pairs than stacks: `PREVIEWED` has these."""

LEGAL = [
    combination
    for combination in (Combination(*choice) for choice in product(Network, LoadBalancerKind, Dns, Certificate))
    if combination.is_legal
]

PREVIEWED = [combination for combination in LEGAL if combination not in {*DEPLOYED, *EXAMPLES.values()}]
"""All others: previewed from the state of the one that was brought up and is most like them."""


def nearest(expected: Combination) -> Combination:
    """Return the one among those brought up that shares most with another.

    A zone that a stack made is never given up.
    """
    starts = [up for up in [*EXAMPLES.values(), *DEPLOYED] if up.dns is not Dns.CREATED or expected.dns is Dns.CREATED]
    return max(starts, key=lambda up: len(set(vars(up).items()) & set(vars(expected).items())))
