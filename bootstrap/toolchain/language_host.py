# ruff: noqa: INP001  # a program of its own, not a module of this package
"""The engine's Python side, where Pulumi's own language host cannot be downloaded.

The engine starts it, reads a port from its first line of output, and asks it over gRPC to run `__main__.py`. The SDK
has such a server for the Automation API's inline programs; here the inline program is the project.
"""

import os
import runpy
import signal
import sys
import threading
from concurrent import futures
from importlib import metadata
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi import RunError
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

Message = Any
"""The generated protocol classes carry no types."""


class PythonLanguageHost(LanguageServer):
    """Runs the project in the folder that the engine names."""

    def __init__(self, engine_address: str) -> None:
        """Wait for the engine at an address."""
        super().__init__(self._run_project)
        self._engine_address = engine_address
        self._project_folder = os.getcwd()  # noqa: PTH109  # handed on as text

    def _run_project(self) -> None:
        sys.path.insert(0, self._project_folder)
        os.chdir(self._project_folder)
        runpy.run_path(self._project_folder, run_name="__main__")

    def Handshake(self, request: Message, context: Message) -> Message:  # noqa: ARG002, N802  # the protocol's
        """Learn where the engine is."""
        self._engine_address = request.engine_address or self._engine_address
        return language_pb2.LanguageHandshakeResponse()

    def Run(self, request: Message, context: Message) -> Message:  # noqa: N802  # the protocol's name
        """Run the project once."""
        self._project_folder = request.info.program_directory or request.pwd
        request.args.insert(0, self._engine_address)
        try:
            answer = super().Run(request, context)
        except RunError:
            # The SDK clears away what waits for a fault that it has logged, and some of that fails of it once more.
            return language_pb2.RunResponse(bail=True)
        # The SDK has logged the error already; told of it, the engine would print it once more.
        return language_pb2.RunResponse(bail=True) if answer.error else answer

    def GetPluginInfo(self, request: Message, context: Message) -> Message:  # noqa: ARG002, N802  # the protocol's
        """Answer with the SDK's version."""
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi"))

    def Cancel(self, request: Message, context: Message) -> Message:  # noqa: ARG002, N802  # the protocol's
        """End soon, but after the answer."""
        threading.Timer(0.1, os._exit, [0]).start()
        return empty_pb2.Empty()


def main() -> None:
    """Serve until the engine is gone."""
    addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=unlimited)
    host = PythonLanguageHost(addresses[0] if addresses else "")
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the engine handles it and sends Cancel
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    # An engine that was killed says nothing; its children are given to another parent.
    engine = os.getppid()
    while server.wait_for_termination(timeout=1) and os.getppid() == engine:
        pass
    # A program that waits for a killed engine would wait for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
