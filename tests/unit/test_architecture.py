"""Dependencies point one way, components are usable from every Pulumi language, and every test file is collected."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pulumi.provider.experimental.analyzer import Analyzer

from open_webui_edge.components.aws.access_logs import AccessLogs
from open_webui_edge.components.aws.alarms import Alarms
from open_webui_edge.components.aws.backup import VolumeBackup
from open_webui_edge.components.aws.certificate import AcmCertificate
from open_webui_edge.components.aws.dns import CaaRecords, DnsRecords, DnsZone
from open_webui_edge.components.aws.ec2_host import Ec2Host
from open_webui_edge.components.aws.load_balancer import ApplicationLoadBalancer, NetworkLoadBalancer
from open_webui_edge.components.aws.network import Network
from open_webui_edge.components.aws.security_groups import SecurityGroups
from open_webui_edge.components.aws.vm import AwsVm
from open_webui_edge.components.backing_services import Ollama, Postgres, Redis
from open_webui_edge.components.backup import Backup
from open_webui_edge.components.certificates.certbot import Certbot
from open_webui_edge.components.certificates.self_signed import SelfSignedCertificate
from open_webui_edge.components.docker.host import DockerHost
from open_webui_edge.components.generated_secret import GeneratedSecret
from open_webui_edge.components.monitoring.component import Prometheus
from open_webui_edge.components.open_webui import OpenWebUI
from open_webui_edge.components.readiness import Readiness
from open_webui_edge.components.reverse_proxy.component import NginxReverseProxy
from open_webui_edge.components.reverse_proxy.exporter import NginxMetrics
from open_webui_edge.runtime import delivery

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


FLOORS = {
    "__main__": 4,
    "benchmarks": 4,
    "cli": 4,
    "bootstrap": 3,
    "components": 3,
    "engine": 2,
    "diagnostics": 1,
    "runtime": 1,
    "settings": 1,
}
"""Folder -> its floor: imports go down, and on one floor only to runtime/contract.py."""
PACKAGE = "open_webui_edge"
PULUMI_PACKAGE = "open-webui-edge"
CONTRACT = f"{PACKAGE}.runtime.contract"


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    words = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(words[:-1] if words[-1] == "__init__" else words)))


PRODUCT = {module_of(path): path for path in (ROOT / "__main__.py", *modules(*sorted(set(FLOORS) - {"__main__"})))}


def imports(path: Path) -> set[str]:
    """Return what a file imports, anywhere in it: modules of this project by their full names, others as written."""
    result: set[str] = set()
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            name = ".".join(filter(None, (above, node.module)))
            for alias in node.names:
                result.add(f"{name}.{alias.name}" if f"{name}.{alias.name}" in PRODUCT else name)
    return result


def folder_of(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_of_the_product_has_its_floor() -> None:
    top = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {PACKAGE}
    assert top - {"tests"} == set(FLOORS) - {"__main__"}
    links = {path.name: path.readlink() for path in (ROOT / PACKAGE).iterdir() if path.is_symlink()}
    assert links == {name: Path("..", name) for name in top - {"tests"}}


@pytest.mark.parametrize("module", sorted(PRODUCT))
def test_imports_go_down(module: str) -> None:
    own = folder_of(module)
    for name in imports(PRODUCT[module]):
        if name.split(".")[0] != PACKAGE or name == PACKAGE:
            assert name.split(".")[0] not in {*FLOORS, "stacks", "tests"}, f"{module} imports {name}"
            continue
        other = folder_of(name)
        assert name == CONTRACT or other == own or FLOORS[other] < FLOORS[own] or own == "__main__", (module, name)
        if other == "components":
            assert own in {"__main__", "benchmarks", "components"}, f"{module} imports {name}"


def test_no_modules_import_each_other() -> None:
    left = {module: imports(path) & PRODUCT.keys() - {module} for module, path in PRODUCT.items()}
    while free := {module for module, needed in left.items() if not needed & left.keys()}:
        left = {module: needed for module, needed in left.items() if module not in free}
    assert set(left) == set()


@pytest.mark.parametrize("module", sorted(PRODUCT))
def test_no_file_is_reached_by_a_path_into_another_folder(module: str) -> None:
    known = {folder for folder in FLOORS if folder != folder_of(module)}
    tree = ast.parse(PRODUCT[module].read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not {text for text in texts if " " not in text and re.match(rf"({'|'.join(known)})/\w", text)}


@pytest.mark.parametrize("path", list(modules("bootstrap", "engine", "settings")), ids=module_of)
def test_what_needs_no_pulumi_knows_none(path: Path) -> None:
    # That one is a part of Pulumi: the program that its engine starts.
    if path == ROOT / "bootstrap/toolchain/language_host.py":
        return
    assert not {name for name in imports(path) if name.split(".")[0].startswith("pulumi")}


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "components/reverse_proxy/rendering.py",
        ROOT / "components/monitoring/rendering.py",
        ROOT / "components/aws/cloud_init.py",
    ],
    ids=module_of,
)
def test_pure_code_knows_no_pulumi(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0].startswith("pulumi")}


@pytest.mark.parametrize("path", list(modules("components")), ids=module_of)
def test_only_the_deployment_knows_settings_and_components(path: Path) -> None:
    of_images = f"{PACKAGE}.settings.images"
    knows_settings = any(name.startswith(f"{PACKAGE}.settings.") for name in imports(path) - {of_images, *PURE})
    knows_components = "pulumi" in imports(path)
    if knows_settings and knows_components:
        assert path.relative_to(ROOT).as_posix() in {"components/deployment.py", "components/preflight.py"}


PURE = {f"{PACKAGE}.settings.data"}
"""Modules of settings with a function that a component uses on plain values."""


@pytest.mark.parametrize("path", list(PRODUCT.values()), ids=module_of)
def test_only_what_is_made_on_aws_imports_its_sdk(path: Path) -> None:
    if not path.is_relative_to(ROOT / "components/aws"):
        assert "pulumi_aws" not in {name.split(".")[0] for name in imports(path)}


def _loads(words: str) -> int:
    # Everything that a command loads, in a process of its own.
    return subprocess.run([sys.executable, "-c", words], cwd=ROOT, check=False).returncode  # noqa: S603 - our own words


def test_who_needs_nothing_of_aws_does_not_wait_for_its_sdk() -> None:
    loaded = f"{PACKAGE}.components.preflight, {PACKAGE}.components.deployment"
    assert _loads(f"import sys, {loaded}; sys.exit('pulumi_aws' in sys.modules)") == 0


def test_no_command_waits_for_the_sdk_that_it_does_not_use() -> None:
    assert _loads(f"import sys, {PACKAGE}.cli.commands; sys.exit('pulumi' in sys.modules)") == 0


def test_who_brings_no_certificate_does_not_wait_for_what_reads_one() -> None:
    loaded = f"{PACKAGE}.components.preflight, {PACKAGE}.components.deployment"
    result = "any(name.startswith('cryptography') for name in sys.modules)"
    assert _loads(f"import sys, {loaded}; sys.exit({result})") == 0


@pytest.mark.parametrize(
    ("program", "third_party"),
    [
        ("open_webui/launch.py", {"certifi", "cryptography", "figures", "redis", "sqlalchemy", "upgrade"}),
        ("open_webui/container_metrics.py", set()),
        ("open_webui/upgrade.py", {"redis", "sqlalchemy"}),
        ("open_webui/task_reporter.py", set()),
        ("open_webui/request_counter.py", set()),
        ("open_webui/probe.py", {"launch", "redis", "sqlalchemy"}),
        ("open_webui/set_password.py", {"argon2", "bcrypt", "redis", "sqlalchemy"}),
        ("backup/files.py", set()),
        ("readiness/replica_dns.py", set()),
        ("certbot", {"cryptography"}),
        ("instance", set()),
    ],
    # A set says its members in another order each time.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_runs_in_a_container_needs_nothing_of_this_program(program: str, third_party: set[str]) -> None:
    texts = [delivery.program(program)] if program.endswith(".py") else delivery.package(program).values()
    needed: set[str] = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                needed |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                needed.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                needed.add(ast.literal_eval(node.args[0]))
    beside = {file.stem for file in (ROOT / "runtime" / program).glob("*.py")}
    assert needed - sys.stdlib_module_names - beside == third_party


def test_every_component_passes_the_component_analyser() -> None:
    analyzer = Analyzer("open-webui-edge")
    analyzed = analyzer.analyze(components=EXPORTED)
    assert set(analyzed["component_definitions"]) == {component.__name__ for component in EXPORTED}


def test_every_component_but_the_deployment_is_among_the_exported() -> None:
    written = {
        node.name
        for path in modules("components")
        for node in ast.walk(ast.parse(path.read_text()))
        # A base class of components has no token of its own.
        if isinstance(node, ast.ClassDef) and f"super().__init__('{PULUMI_PACKAGE}:" in ast.unparse(node)
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


@pytest.mark.parametrize("path", [*PRODUCT.values(), *modules("tests")], ids=module_of)
def test_no_list_of_containers_fails_for_one_that_goes_meanwhile(path: Path) -> None:
    # The SDK lists, then inspects each one: a container that was removed in between would raise NotFound.
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".containers.list"):
            assert {"ignore_removed", "sparse"} & {keyword.arg for keyword in node.keywords}, f"line {node.lineno}"
