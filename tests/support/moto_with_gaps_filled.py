"""A cloud to deploy to: moto's server, and stand-ins for the calls that it does not know.

Started as a program, since a cloud's state lives as long as its process: `… --port PORT`. What stands in is listed in
`STAND_INS`, each with its reason, and what is set right in moto itself in `moto_patches`; everything else is moto.
"""

import argparse
import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

from tests.support.moto_patches import patch

STAND_INS = {
    "backup: CreateBackupSelection, GetBackupSelection, ListBackupSelections, DeleteBackupSelection": (
        "moto takes them for a question about the plan, and the provider waits for ever"
    ),
    "backup: ListRecoveryPointsByBackupVault": "moto has none; a vault is asked for them before it goes",
    "backup: ListTags": "moto finds the name by the last slash of the path, which not every client of AWS's sends",
}
_SELECTIONS = re.compile(r"/backup/plans/(?P<plan>[^/]+)/selections(?:/(?P<selection>[^/]*))?/?")
_COPIES = re.compile(r"/backup-vaults/[^/]+/recovery-points/?")
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
        if request.method == "GET" and _COPIES.fullmatch(request.path):
            return _json({"RecoveryPoints": []})(environ, start)
        result = _SELECTIONS.fullmatch(request.path)
        if result is None:
            return self.otherwise(environ, start)
        return self._answer(request, result["plan"], result["selection"] or None)(environ, start)

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


def main() -> None:
    """Serve on a port of this machine until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    patch()
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
