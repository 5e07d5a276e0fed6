"""An engine that is asked to pull, by its API; apart, because the package `docker` takes a while to import."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import docker.auth
import docker.errors
import requests
from docker.utils import kwargs_from_env

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images.pulling import PullError, StalledError
from open_webui_edge.engine.ssh import TunnelError, forwarded_socket

FIRST_ANSWER_TIMEOUT = 30
"""Seconds for which a registry may say nothing at all. The engine itself waits without end."""
STALL_TIMEOUT = 180
"""Seconds for which a pull may report nothing: the last part of a large layer is written to a slow disk meanwhile."""


class EngineClient:
    """An engine, asked by its API."""

    def __init__(
        self, engine: Engine, *, first_answer: int = FIRST_ANSWER_TIMEOUT, stall: float = STALL_TIMEOUT
    ) -> None:
        """Connect to an engine that answers; raises ProblemError if there is no connection."""
        self._first_answer, self._stall = first_answer, stall
        try:
            self._api = docker.APIClient(**_connection(engine), version="auto", timeout=first_answer)
        except (docker.errors.DockerException, TunnelError) as error:
            raise ProblemError(f"The Docker engine at {engine.address} cannot be asked: {error}") from None

    def refusal(self, name: str) -> str | None:
        """Return the words with which the registry of an image cannot be asked or refuses; None if it has the image."""
        try:
            self._api.inspect_distribution(name, auth_config={} if self._login(name) is None else None)
        except requests.exceptions.Timeout:
            return f"no answer within {self._first_answer:g} s"
        except docker.errors.APIError as error:
            return str(error.explanation or error)
        return None

    def events(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Pull an image and yield what the engine says meanwhile.

        Raises:
            StalledError: it says nothing more.
            PullError: it refuses.

        """
        repository, _, tag = name.rpartition(":")
        login = self._login(name)
        try:
            # Not `APIClient.pull`, which waits without end.
            with self._api.post(
                f"{self._api.base_url}/v{self._api.api_version}/images/create",
                params={"fromImage": repository, "tag": tag},
                headers={"X-Registry-Auth": login} if login else {},
                stream=True,
                timeout=self._stall,
            ) as answer:
                if not answer.ok:
                    raise PullError(_message(answer))
                for line in answer.iter_lines():
                    if line:
                        yield json.loads(line)
        except (requests.exceptions.RequestException, OSError) as error:
            if "timed out" in str(error):
                raise StalledError(f"nothing came for {self._stall:g} s") from None
            raise PullError(f"the connection to the engine ended ({error})") from None

    def information(self) -> Mapping[str, Any]:
        """Return what `docker info` shows."""
        return self._api.info()

    def _login(self, name: str) -> str | None:
        """Return what docker's configuration says about the registry of an image, as a header's value.

        None, which is no login, where the helper that should say it fails: in WSL the configuration often names
        one of Windows that cannot be run, and public images need no login.
        """
        registry, _ = docker.auth.resolve_repository_name(name.rpartition(":")[0])
        try:
            return (docker.auth.get_config_header(self._api, registry) or b"").decode("ascii")
        except docker.errors.DockerException:
            return None


def _connection(engine: Engine) -> dict[str, Any]:
    if engine.origin == "DOCKER_HOST" and engine.address.startswith("tcp://"):
        # With the certificates that the environment names.
        return dict(kwargs_from_env())
    address = engine.client[2] if engine.client[1:2] == ("--host",) else engine.address
    return {"base_url": forwarded_socket(address) if address.startswith("ssh://") else address}


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip() or f"status {answer.status_code}"
