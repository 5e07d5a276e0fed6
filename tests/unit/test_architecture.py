"""Dependencies point one way, components are usable from every Pulumi language, and every test file is collected."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pulumi.provider.experimental.analyzer import Analyzer

from components.aws.access_logs import AccessLogs
from components.aws.alarms import Alarms
from components.aws.backup import VolumeBackup
from components.aws.certificate import AcmCertificate
from components.aws.dns import CaaRecords, DnsRecords, DnsZone
from components.aws.ec2_host import Ec2Host
from components.aws.load_balancer import ApplicationLoadBalancer, NetworkLoadBalancer
from components.aws.network import Network
from components.aws.security_groups import SecurityGroups
from components.aws.vm import AwsVm
from components.backing_services import Ollama, Postgres, Redis
from components.backup.component import Backup
from components.certificates.certbot import Certbot
from components.certificates.self_signed import SelfSignedCertificate
from components.docker.host import DockerHost
from components.generated_secret import GeneratedSecret
from components.monitoring.component import Prometheus
from components.open_webui import OpenWebUI
from components.readiness.component import Readiness
from components.reverse_proxy.component import NginxReverseProxy
from components.reverse_proxy.metrics import NginxMetrics

ROOT = Path(__file__).parent.parent.parent
EXPORTED = [
    AccessLogs,
    AcmCertificate,
    Alarms,
    ApplicationLoadBalancer,
    AwsVm,
    Backup,
    CaaRecords,
    Certbot,
    DnsRecords,
    DnsZone,
    DockerHost,
    Ec2Host,
    GeneratedSecret,
    Network,
    NetworkLoadBalancer,
    NginxMetrics,
    NginxReverseProxy,
    Ollama,
    OpenWebUI,
    Postgres,
    Prometheus,
    Readiness,
    Redis,
    SecurityGroups,
    SelfSignedCertificate,
    VolumeBackup,
]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", list(modules("stacks")), ids=lambda path: path.name)
def test_settings_know_no_pulumi_and_no_component(path: Path) -> None:
    # images.py holds versions, and nothing but data.
    known = {name for name in imports(path) if name.startswith("components")}
    assert known <= {"components.images"}
    assert not {name for name in imports(path) if name.split(".")[0].startswith("pulumi")}


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "components/reverse_proxy/rendering.py",
        ROOT / "components/images.py",
        ROOT / "components/monitoring/rendering.py",
        ROOT / "components/aws/cloud_init.py",
    ],
    ids=lambda path: path.name,
)
def test_pure_code_knows_no_pulumi(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0].startswith("pulumi")}


@pytest.mark.parametrize("path", list(modules("components")), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_deployment_knows_settings_and_components(path: Path) -> None:
    knows_settings = any(name.startswith("stacks.") for name in imports(path))
    knows_components = "pulumi" in imports(path)
    if knows_settings and knows_components:
        assert path.relative_to(ROOT).as_posix() in {"components/deployment.py", "components/configuration.py"}


@pytest.mark.parametrize("path", list(modules("components", "stacks")), ids=lambda path: str(path.relative_to(ROOT)))
def test_bootstrap_is_never_needed_by_a_running_stack(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in {"bootstrap", "tests", "diagnostics"}}


@pytest.mark.parametrize("path", list(modules("diagnostics")), ids=lambda path: str(path.relative_to(ROOT)))
def test_doctor_knows_neither_pulumi_nor_settings_nor_components(path: Path) -> None:
    known = {name.split(".")[0] for name in imports(path)}
    assert known.isdisjoint({"pulumi", "pulumi_aws", "pulumi_docker", "components", "stacks", "bootstrap", "tests"})


@pytest.mark.parametrize(
    "path", list(modules("components", "stacks", "bootstrap")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_what_is_made_on_aws_imports_its_sdk(path: Path) -> None:
    if not path.is_relative_to(ROOT / "components/aws"):
        assert "pulumi_aws" not in {name.split(".")[0] for name in imports(path)}


def test_who_needs_nothing_of_aws_does_not_wait_for_its_sdk() -> None:
    program = "import sys, components.configuration, components.deployment; sys.exit('pulumi_aws' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0  # noqa: S603 - our own words


def test_no_command_waits_for_the_sdk_that_it_does_not_use() -> None:
    words = "import sys, bootstrap.commands; sys.exit('pulumi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], cwd=ROOT, check=False).returncode == 0  # noqa: S603 - our own


@pytest.mark.parametrize(
    ("script", "third_party"),
    [
        ("launch.py", {"certifi", "cryptography", "redis", "sqlalchemy", "upgrade"}),
        ("figures.py", set()),
        ("upgrade.py", {"redis", "sqlalchemy"}),
        ("running_tasks.py", set()),
        ("readiness/watch.py", set()),
        ("certificates/obtain", {"cryptography"}),
        ("aws/host", set()),
    ],
    ids=str,
)
def test_what_runs_in_a_container_needs_nothing_of_this_program(script: str, third_party: set[str]) -> None:
    path = ROOT / "components" / script
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    beside = {file.stem for file in files}
    needed = {name.split(".")[0] for file in files for name in imports(file)}
    assert needed - sys.stdlib_module_names - beside == third_party


def test_who_brings_no_certificate_does_not_wait_for_what_reads_one() -> None:
    program = (
        "import sys, components.configuration, components.deployment;"
        " sys.exit(any(name.startswith('cryptography') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0  # noqa: S603 - our own words


def test_every_component_passes_the_component_analyser() -> None:
    analyzer = Analyzer("open-webui-edge")
    analyzed = analyzer.analyze(components=EXPORTED)
    assert set(analyzed["component_definitions"]) == {component.__name__ for component in EXPORTED}


def test_every_component_but_the_deployment_is_among_the_exported() -> None:
    written = {
        node.name
        for path in modules("components")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and any("ComponentResource" in ast.unparse(base) for base in node.bases)
    }
    assert written - {"OpenWebUIDeployment"} == {component.__name__ for component in EXPORTED}


@pytest.mark.parametrize("component", EXPORTED, ids=lambda component: component.__name__)
def test_token_is_package_index_class(component: type) -> None:
    source = Path(sys.modules[component.__module__].__file__ or "").read_text()
    assert f'"open-webui-edge:index:{component.__name__}"' in source


def test_every_file_that_defines_a_test_is_collected() -> None:
    for path in modules("tests"):
        defines = any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            for node in ast.parse(path.read_text()).body
        )
        assert not defines or path.name.startswith("test_"), path
