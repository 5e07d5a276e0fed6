"""The scripts on an instance, run by this interpreter: they ask a metadata service and a cloud that checks them.

The cloud verifies signatures, and that a role may do something at all; what the instance's own role may is read by the
unit tests, since moto knows neither conditions nor CloudWatch's name in a policy.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from open_webui_edge.runtime.instance import aws_request
from tests.support.certificates import authority, server
from tests.support.cloud import REGION, Cloud
from tests.support.metadata_service import MetadataService

SCRIPTS = Path(aws_request.__file__).parent
PARAMETER = "/open-webui-edge/a/edge-host/ssh-host-key"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud with the parameter and the role."""
    with Cloud.open(tmp_path_factory.mktemp("cloud") / "moto.log") as cloud:
        cloud.client("ssm").put_parameter(Name=PARAMETER, Type="SecureString", Value=KEY)
        _role(cloud, "the-role", "Allow")
        _role(cloud, "another", "Deny")
        yield cloud


def _role(cloud: Cloud, name: str, effect: str) -> None:
    iam = cloud.client("iam")
    statement = {"Effect": effect, "Action": ["ssm:GetParameter", "monitoring:PutMetricData"], "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    iam.put_role_policy(RoleName=name, PolicyName="host", PolicyDocument=json.dumps(policy))


@contextmanager
def instance(cloud: Cloud, *, role: str = "the-role", late: int = 0) -> Generator[dict[str, str]]:
    """Return the environment of an instance that has a role."""
    arn = cloud.client("iam").get_role(RoleName=role)["Role"]["Arn"]
    keys = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="i-0a")["Credentials"]
    with MetadataService.open(REGION, keys, late=late) as metadata, _strict(cloud):
        yield {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": cloud.environment["AWS_ENDPOINT_URL"],
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
            "HOST_KEY_PARAMETER": PARAMETER,
            "STACK": "a",
            "DATA_MOUNT": "/",
        }


@contextmanager
def _strict(cloud: Cloud) -> Generator[None]:
    """Have the cloud check who asks, and whether he may."""
    _authenticate(cloud, "0")
    try:
        yield
    finally:
        _authenticate(cloud, "inf")


def _authenticate(cloud: Cloud, after: str) -> None:
    url = f"{cloud.environment['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(url, after.encode(), {"Content-Type": "text/plain"})).close()  # noqa: S310 - this machine's


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the program's own
        [sys.executable, "-B", str(SCRIPTS / script), *arguments],
        env={"PATIENCE": "10", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_host_key_is_fetched_and_only_root_reads_it(account: Cloud, tmp_path: Path) -> None:
    with instance(account) as environment:
        ended = run("host_key.py", str(tmp_path / "key"), **environment)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "key").read_text() == KEY
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert ended.stdout + ended.stderr == ""


def test_it_is_fetched_once_more_and_is_the_same(account: Cloud, tmp_path: Path) -> None:
    (tmp_path / "key.new").write_text("of a run that was cut off")
    with instance(account) as environment:
        for _ in range(2):
            assert run("host_key.py", str(tmp_path / "key"), **environment).returncode == 0
    assert (tmp_path / "key").read_text() == KEY


def test_a_role_that_comes_late_is_waited_for(account: Cloud, tmp_path: Path) -> None:
    with instance(account, late=1) as environment:
        ended = run("host_key.py", str(tmp_path / "key"), **environment)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "key").read_text() == KEY


def test_what_is_refused_is_said_in_one_line(account: Cloud, tmp_path: Path) -> None:
    with instance(account, role="another") as environment:
        ended = run("host_key.py", str(tmp_path / "key"), PATIENCE="0", **environment)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"the host key of ssh cannot be fetched from {PARAMETER}: ssm answers 4")
    assert "AccessDenied" in line
    assert not list(tmp_path.iterdir())


def test_a_key_that_is_there_stays_when_it_cannot_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    nowhere = "http://127.0.0.1:9"
    ended = run(
        "host_key.py",
        str(tmp_path / "key"),
        HOST_KEY_PARAMETER=PARAMETER,
        AWS_EC2_METADATA_SERVICE_ENDPOINT=nowhere,
        AWS_ENDPOINT_URL=nowhere,
    )
    assert ended.returncode == 0
    assert ended.stderr == "the host key of ssh stays as it is: <urlopen error [Errno 111] Connection refused>\n"
    assert (tmp_path / "key").read_text() == KEY


def test_a_parameter_without_a_key_is_no_key(account: Cloud, tmp_path: Path) -> None:
    account.client("ssm").put_parameter(Name="/other", Type="SecureString", Value="hello")
    with instance(account) as environment:
        ended = run(
            "host_key.py", str(tmp_path / "key"), **{**environment, "HOST_KEY_PARAMETER": "/other", "PATIENCE": "0"}
        )
    assert ended.stderr == (
        "the host key of ssh cannot be fetched from /other: /other holds no private key of OpenSSH's\n"
    )
    assert "hello" not in ended.stdout + ended.stderr


@contextmanager
def front_door(*, days: int, uses_proxy_protocol: bool, tmp_path: Path) -> Generator[str]:
    """Serve a certificate; return the port."""
    issued = server(["chat.example.com"], authority("Test issuing", authority("Test root")), days=(-1, days))
    (tmp_path / "chain.pem").write_text(issued.chain_pem)
    (tmp_path / "key.pem").write_text(issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if uses_proxy_protocol and connection.recv(15) != b"PROXY UNKNOWN\r\n":
                        continue
                    try:
                        with context.wrap_socket(connection, server_side=True) as secured:
                            secured.recv(1)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield str(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def published(cloud: Cloud, stack: str) -> dict[str, float]:
    """Return the last value of each of a stack's metrics."""
    cloudwatch = cloud.client("cloudwatch")
    now = datetime.now(UTC)
    values: dict[str, float] = {}
    dimensions: list[dict[str, Any]] = [{"Name": "Stack", "Value": stack}]
    for metric in cloudwatch.list_metrics(Namespace="open-webui-edge", Dimensions=dimensions)["Metrics"]:
        (point,) = cloudwatch.get_metric_statistics(
            Namespace="open-webui-edge",
            MetricName=metric["MetricName"],
            Dimensions=dimensions,
            StartTime=now - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=5),
            Period=3600,
            Statistics=["Maximum"],
        )["Datapoints"]
        values[metric["MetricName"]] = point["Maximum"]
    return values


@pytest.mark.parametrize("uses_proxy_protocol", [False, True])
def test_disk_and_certificate_are_published(account: Cloud, tmp_path: Path, *, uses_proxy_protocol: bool) -> None:
    stack = f"measured-{uses_proxy_protocol}"
    with (
        front_door(days=30, uses_proxy_protocol=uses_proxy_protocol, tmp_path=tmp_path) as port,
        instance(account) as environment,
    ):
        ended = run("metrics.py", **{**environment, "STACK": stack, "HTTPS_PORT": port})
    assert ended.returncode == 0, ended.stderr
    metrics = published(account, stack)
    usage = shutil.disk_usage("/")
    assert metrics["disk_used_percent"] == pytest.approx(100 * usage.used / (usage.used + usage.free), abs=2)
    assert metrics["certificate_days_left"] == pytest.approx(30, abs=0.1)
    assert set(metrics) == {"disk_used_percent", "certificate_days_left"}


def test_what_cannot_be_measured_is_said_and_the_rest_published(account: Cloud) -> None:
    with instance(account) as environment:
        ended = run("metrics.py", **{**environment, "STACK": "half", "HTTPS_PORT": "9"})
    assert ended.returncode == 1
    assert ended.stderr == "certificate_days_left cannot be measured: [Errno 111] Connection refused\n"
    assert set(published(account, "half")) == {"disk_used_percent"}


def test_a_volume_that_is_not_mounted_is_not_taken_for_the_root_volume(account: Cloud, tmp_path: Path) -> None:
    with instance(account) as environment:
        ended = run("metrics.py", **{**environment, "STACK": "none", "HTTPS_PORT": "9", "DATA_MOUNT": str(tmp_path)})
    assert f"disk_used_percent cannot be measured: {tmp_path} is no mount point\n" in ended.stderr
    assert published(account, "none") == {}


def test_numbers_that_nobody_takes_are_said_in_one_line(account: Cloud) -> None:
    with instance(account, role="another") as environment:
        ended = run("metrics.py", **{**environment, "HTTPS_PORT": "9"})
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("nothing is published: monitoring answers 403: ")
    assert "AccessDenied" in line


def test_a_request_is_signed_as_aws_s_own_client_does_it() -> None:
    keys = {"AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "secret/key+", "Token": "token=="}
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
    url, body = "https://ssm.eu-central-1.amazonaws.com/", b'{"Name": "/a"}'
    ours = urllib.request.Request(url, data=body, headers=headers)
    aws_request.sign(ours, "ssm", REGION, keys, datetime.now(UTC))
    theirs = AWSRequest("POST", url, headers, body)
    credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"])
    signer = SigV4Auth(credentials, "ssm", REGION)
    for _ in range(3):
        signer.add_auth(theirs)
        if theirs.headers["X-Amz-Date"] == ours.get_header("X-amz-date"):
            break
        aws_request.sign(ours, "ssm", REGION, keys, datetime.now(UTC))
    assert ours.get_header("Authorization") == theirs.headers["Authorization"]
