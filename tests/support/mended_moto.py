"""A cloud to deploy to: moto's server, and what these tests need of AWS that it lacks or gets wrong.

Started as a program, since a cloud's state lives as long as its process: `… --port PORT`. `MENDED` lists every call
that is not answered by moto alone, and why; the rest is moto.
"""

import argparse
import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

MENDED = {
    "backup: CreateBackupSelection, GetBackupSelection, ListBackupSelections, DeleteBackupSelection": (
        "moto takes them for a question about the plan, and the provider waits for ever"
    ),
    "backup: ListTags": "moto finds the name by the last slash of the path, which not every client of AWS's sends",
    "ec2: DescribeSubnets, its IPv6 network's state": "moto writes a Python dictionary where the word belongs",
    "ec2: DescribeSecurityGroupRules, the description": "moto forgets it where the other end is a group",
    "ec2: DescribeSubnets by the id of an IPv6 network": "moto knows no such filter, and the provider waits for it",
}
_SELECTIONS = re.compile(r"/backup/plans/(?P<plan>[^/]+)/selections(?:/(?P<selection>[^/]*))?/?")

_PATHS = ("PATH_INFO", "RAW_URI", "REQUEST_URI")
_TAGS = re.compile(r"/tags/[^/]+")

Answer = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""


@dataclass
class StandIns:
    """AWS's own calls, answered in front of moto."""

    otherwise: Answer
    selections: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict[tuple[str, str], dict[str, Any]])
    """What AWS Backup is told to back up: (plan, selection) -> what was sent."""

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer what is asked of selections; hand on the rest."""
        request = Request(environ)
        if "/backup/" not in request.headers.get("Authorization", ""):
            return self.otherwise(environ, start)
        if request.method == "GET" and _TAGS.fullmatch(request.path):
            return self.otherwise({**environ, **{key: f"{environ[key]}/" for key in _PATHS if key in environ}}, start)
        found = _SELECTIONS.fullmatch(request.path)
        if found is None:
            return self.otherwise(environ, start)
        return self._answer(request, found["plan"], found["selection"] or None)(environ, start)

    def _answer(self, request: Request, plan: str, selection: str | None) -> Response:
        if request.method == "PUT":
            selection = str(uuid.uuid4())
            self.selections[plan, selection] = json.loads(request.get_data())
            return _json({"BackupPlanId": plan, "SelectionId": selection, "CreationDate": 0})
        if selection is None:
            listed = [
                {"BackupPlanId": plan, "SelectionId": each, "SelectionName": sent["BackupSelection"]["SelectionName"]}
                for (of, each), sent in self.selections.items()
                if of == plan
            ]
            return _json({"BackupSelectionsList": listed})
        if (plan, selection) not in self.selections:
            # So does AWS: what is not there is a parameter that is wrong.
            fault = _json({"Code": "ERROR_2301", "Message": "Cannot find Backup plan/selection"}, status=400)
            fault.headers["x-amzn-ErrorType"] = "InvalidParameterValueException"
            return fault
        if request.method == "DELETE":
            del self.selections[plan, selection]
            return _json({})
        return _json({"BackupPlanId": plan, "SelectionId": selection, **self.selections[plan, selection]})


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, content_type="application/json")


def mend() -> None:
    """Set right what moto answers itself."""
    networks = Subnet.ipv6_cidr_block_association_set.fget
    known = Subnet.get_filter_value

    def with_states(subnet: Subnet) -> list[dict[str, Any]]:
        found = networks(subnet)  # pyright: ignore[reportOptionalCall]  # a property with a getter
        return [{**each, "ipv6CidrBlockState": {"state": "associated"}} for each in found]

    def filters(self: Subnet, filter_name: str, method_name: str | None = None) -> Any:
        if filter_name == "ipv6-cidr-block-association.association-id":
            return list(self.ipv6_cidr_block_associations)
        return known(self, filter_name, method_name)

    def description(rule: SecurityGroupRule) -> str | None:
        return rule.ip_range.get("Description") or rule.source_group.get("Description")

    SecurityGroupRule.description = property(description)  # pyright: ignore[reportAttributeAccessIssue]  # likewise
    Subnet.ipv6_cidr_block_association_set = property(with_states)  # pyright: ignore[reportAttributeAccessIssue]  # so it is
    Subnet.get_filter_value = filters


def main() -> None:
    """Serve on a port of this machine until somebody ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    mend()
    moto = DomainDispatcherApplication(create_backend_app)
    run_simple(
        "127.0.0.1",
        parser.parse_args().port,
        StandIns(moto),
        threaded=True,
        request_handler=MotoRequestHandler,
    )


if __name__ == "__main__":
    main()
