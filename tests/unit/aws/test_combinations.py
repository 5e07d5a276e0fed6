"""Whether the stacks that are brought up on AWS are enough, and no more than need be."""

from itertools import chain

from tests.aws.combinations import DEPLOYED, EXAMPLES, LEGAL, PREVIEWED, Combination, nearest

UP = [*EXAMPLES.values(), *DEPLOYED]


def test_every_pair_that_shapes_the_cloud_is_brought_up_once() -> None:
    expected = {pair for pair in chain.from_iterable(each.pairs for each in LEGAL) if _shapes_the_cloud(pair)}
    assert expected - set(chain.from_iterable(each.pairs for each in UP)) == set()


def _shapes_the_cloud(pair: frozenset[tuple[str, str]]) -> bool:
    topics = {topic for topic, _ in pair}
    # Nginx's own certificates are no resource of AWS; what ACM's mean is decided by the load balancer.
    return "certificate" not in topics or "load_balancer" in topics


def test_every_certificate_meets_every_zone_and_network_at_least_in_a_preview() -> None:
    everything = set(chain.from_iterable(each.pairs for each in LEGAL))
    assert everything - set(chain.from_iterable(each.pairs for each in [*UP, *PREVIEWED])) == set()


def test_no_stack_is_brought_up_twice_or_in_vain() -> None:
    assert len(set(UP)) == len(UP)
    assert len(DEPLOYED) <= 8
    assert all(each.is_legal for each in UP)


def test_a_preview_starts_from_the_stack_most_like_it() -> None:
    expected = next(each for each in PREVIEWED if str(each) == "existing network, alb, existing zone, acm")
    result = nearest(expected)
    assert isinstance(result, Combination)
    assert str(result) == "new network, alb, existing zone, acm"
