"""The plugin: the engine starts it and reads its port from the first line of output."""

import os
import sys
from concurrent import futures
from pathlib import Path

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from tests.support.aws_provider.protocol import TerraformProvider
from tests.support.aws_provider.provider import AwsProvider

PROGRAM = "TERRAFORM_PROVIDER_AWS"
_LARGEST_MESSAGE = 1 << 28


def main() -> None:
    """Serve until the engine ends this."""
    if PROGRAM not in os.environ:
        sys.exit(f"{PROGRAM} must name the program of Terraform's AWS provider")
    upstream = TerraformProvider(Path(os.environ[PROGRAM]))
    try:
        sizes = [(f"grpc.max_{way}_message_length", _LARGEST_MESSAGE) for way in ("send", "receive")]
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=sizes)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(AwsProvider(upstream), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        server.wait_for_termination()
    finally:
        upstream.stop()


if __name__ == "__main__":
    main()
