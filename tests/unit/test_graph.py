"""What a stack is made of: resources, parents, protections, secrets and outputs, as an update and as a preview."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from open_webui_edge.components.deployment import OpenWebUIDeployment
from open_webui_edge.components.generated_secret import derive
from open_webui_edge.engine.engine import Engine, EngineError
from open_webui_edge.settings.stack import StackSettings
from tests.support.certificates import Issued, authority, key_pem, rsa_key, server
from tests.unit.graph import UNKNOWN, Graph, Resource, graph_of

AUTHORITIES = authority("the company's own").pem
IDENTITIES = Path(__file__).with_name("identities")
API_KEY = "sk-a;b\"c'd$e\\f{g}%h"
PASSWORD = "correct horse; battery staple"
AWS_SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY01"
CLIENT_SECRET = "a client's secret; 'quoted' \\ and $long"
FORMER_KEY = "the key before it, which others know"
SECRET_KEY = "a key; of one's own, 'quoted' \\ and $long"
HMAC_KEY = "c2VjcmV0LWhtYWMta2V5LW9mLXplcm9zc2w"
EVERYTHING = {
    "site": {"domain": "chat.example.com", "aliases": ["192.0.2.10"], "listen": {"address": "0.0.0.0"}},
    "open_webui": {
        "admin": {"email": "admin@example.com", "password": PASSWORD},
        "environment": {"WEBUI_NAME": "Chat"},
    },
    "models": {
        "providers": [{"url": "https://api.example.com/v1", "api_key": API_KEY}],
        "ollama": {"mode": "container", "container": {"gpu": True}},
    },
    "images": {"registry": "registry.example.com/mirror"},
}
BACKING = {"postgres": {"mode": "container"}, "redis": {"mode": "container"}}
DATABASE_URL = "postgresql://owui:hunter22@db.example.com:5432/owui"
REDIS_URL = "rediss://:hunter22@cache.example.com:6379/0"
BUCKET = {"bucket": "chat-backups", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": AWS_SECRET}
STACKS: Mapping[str, Mapping[str, Any]] = {
    "backed-up": {
        "data": BACKING,
        "backup": {
            "enabled": True,
            "at": "04:30",
            "keep": "14d",
            "password": PASSWORD,
            "repository": {"kind": "s3", "s3": BUCKET},
        },
    },
    "local": {},
    "replicas": {"open_webui": {"replicas": 3, "drain": "90s"}, "data": BACKING},
    "replicas-of-others": {
        "open_webui": {"replicas": 2, "environment": {"VECTOR_DB": "qdrant", "REDIS_HEALTH_CHECK_INTERVAL": "30"}},
        "data": {
            "postgres": {"mode": "url", "url": DATABASE_URL, "vector_length": 3072},
            "redis": {"mode": "url", "url": REDIS_URL},
        },
    },
    "everything": EVERYTHING,
    "measured": {
        "site": {"domain": "chat.example.com", "listen": {"address": "0.0.0.0"}},
        "open_webui": {"admin": {"email": "admin@example.com"}},
        "proxy": {"http3": True, "metrics": {"enabled": True}},
    },
    "lets-encrypt": {
        "site": {"domain": "chat.example.org", "aliases": ["www.chat.example.org"], "listen": {"address": "0.0.0.0"}},
        "open_webui": {"admin": {"email": "admin@example.com"}},
        "certificate": {
            "mode": "lets-encrypt",
            "additional_names": ["*.chat.example.org"],
            "lets_encrypt": {
                "email": "hostmaster@example.org",
                "challenge": "dns-01",
                "route53": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": AWS_SECRET},
                "fallback": {
                    "directory": "https://acme.zerossl.com/v2/DV90",
                    "external_account": {"key_id": "kid-1", "hmac_key": HMAC_KEY},
                },
            },
        },
    },
    "monitored": {
        "open_webui": {"replicas": 2, "drain": "90s"},
        "data": BACKING,
        "monitoring": {
            "prometheus": {
                "enabled": True,
                "port": 9091,
                "interval": "30s",
                "retention": "7d",
                "max_size": "256MiB",
                "memory": "256MiB",
                "alertmanagers": ["https://alertmanager.example.com/team/"],
            }
        },
    },
    "generated-password": {"open_webui": {"admin": {"email": "admin@example.com"}}},
    "existing-volume": {"data": {"volume": "open-webui"}, "open_webui": {"replicas": 1}},
    "oidc": {
        "open_webui": {
            "admin": {"email": "admin@example.com"},
            "oidc": {
                "issuer": "https://auth.example.com/realms/staff/",
                "client_id": "chat",
                "client_secret": CLIENT_SECRET,
                "name": "Example Inc.",
                "allowed_domains": ["example.com", "example.org"],
                "roles": {"claim": "realm_access.roles", "allowed": ["chat", "staff"]},
                "groups": {"create": True},
                "only": True,
            },
            "certificate_authorities": AUTHORITIES,
            "environment": {"ENABLE_OAUTH_ID_TOKEN_COOKIE": "true"},
        }
    },
    "second-authority": {"certificate": {"self_signed": {"generation": 2}}},
    "own-secret-key": {
        "open_webui": {"secret_key": SECRET_KEY, "former_secret_keys": [FORMER_KEY], "replicas": 2},
        "data": BACKING,
    },
}


def deployed(stack: str, *, preview: bool = False, shows_ipv6_clients: bool = False, **changes: Any) -> Graph:
    settings = StackSettings.model_validate_json(json.dumps({**STACKS[stack], **changes}))
    return graph_of(
        lambda: OpenWebUIDeployment("edge", settings).outputs, preview=preview, shows_ipv6_clients=shows_ipv6_clients
    )


@pytest.fixture(params=[(stack, preview) for stack in STACKS for preview in (False, True)], ids=str)
def graph(request: pytest.FixtureRequest) -> Graph:
    stack, preview = request.param
    return _unchanged(stack, preview=preview)


@cache
def _unchanged(stack: str, *, preview: bool) -> Graph:
    """Return a graph that tests share: to make one takes longer than to look at it."""
    return deployed(stack, preview=preview)


@pytest.mark.parametrize("stack", STACKS)
def test_identities_are_a_contract(stack: str, *, update: bool) -> None:
    expected = IDENTITIES / f"{stack}.txt"
    result = deployed(stack).identities()
    if update:
        expected.write_text(result)
    assert result == expected.read_text()


def test_every_resource_has_a_component_above_it(graph: Graph) -> None:
    assert [resource.name for resource in graph.resources if not resource.parent] == ["edge"]


def test_only_the_proxy_publishes_ports(graph: Graph) -> None:
    published = {
        container.name: {port["ip"] for port in container.inputs["ports"]}
        for container in graph.of("Container")
        if container.inputs.get("ports")
    }
    # And its numbers, for this machine alone.
    for numbers in ("edge-nginx-metrics-endpoint", "edge-prometheus-server"):
        assert published.pop(numbers, {"127.0.0.1"}) == {"127.0.0.1"}
    assert set(published) == {"edge-nginx-server"}


def test_no_container_has_the_host_s_network(graph: Graph) -> None:
    assert [one.name for one in graph.of("Container") if one.inputs.get("networkMode") == "host"] == []


def test_certbot_is_told_what_the_settings_say() -> None:
    graph = deployed("lets-encrypt")
    certbot = graph.named("edge-certbot-server")
    (given,) = (upload for upload in certbot.inputs["uploads"] if upload["file"].endswith("/settings.json"))
    assert json.loads(given["content"]) == {
        "names": ["chat.example.org", "www.chat.example.org", "*.chat.example.org"],
        "challenge": "dns-01",
        "issuers": [
            {"directory": "https://acme-v02.api.letsencrypt.org/directory", "email": "hostmaster@example.org"},
            {
                "directory": "https://acme.zerossl.com/v2/DV90",
                "external_account": {"key_id": "kid-1", "hmac_key": HMAC_KEY},
            },
        ],
        "route53": {
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "secret_access_key": AWS_SECRET,
            "region": "us-east-1",
        },
        "proxy_protocol": False,
    }
    assert certbot.inputs["healthcheck"]["startPeriod"] == "5m0s"
    installer = graph.named("edge-nginx-installer")
    said = {upload["file"].rsplit("/", 1)[1]: upload["content"] for upload in installer.inputs["uploads"]}
    assert said["certificate_source"] == "offered"
    # A challenge by DNS needs nothing of the proxy.
    assert "acme-challenge" not in said["nginx.conf"]


@pytest.mark.parametrize("stack", ["local", "lets-encrypt"])
def test_account_and_certificates_are_kept_whoever_vouches_for_the_site(stack: str) -> None:
    home = deployed(stack).named("edge-letsencrypt")
    assert (home.protect, home.retain) == (True, True)


def test_an_issuer_that_asks_over_http_is_answered() -> None:
    certificate = {"mode": "lets-encrypt", "lets_encrypt": {"staging": True}}
    graph = deployed("lets-encrypt", certificate=certificate)
    (given,) = (
        upload
        for upload in graph.named("edge-certbot-server").inputs["uploads"]
        if upload["file"].endswith("/settings.json")
    )
    assert json.loads(given["content"])["issuers"] == [
        {"directory": "https://acme-staging-v02.api.letsencrypt.org/directory"}
    ]
    uploads = graph.named("edge-nginx-installer").inputs["uploads"]
    assert any("acme-challenge" in upload["content"] for upload in uploads if upload["file"].endswith("/nginx.conf"))


PROVIDED = {"mode": "provided", "provided": {"certificate_file": "chain.pem", "private_key_file": "key.pem"}}
_TLS = "/etc/open-webui-edge/candidate/tls"


@pytest.fixture
def provided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issued:
    """A certificate in the project's folder."""
    issued = server(["localhost", "127.0.0.1"], authority("Test issuing", authority("Test root")), key=rsa_key())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chain.pem").write_text(issued.chain_pem)
    (tmp_path / "key.pem").write_text(key_pem(issued.key, "hunter22", traditional=True))
    (tmp_path / "key.pem").chmod(0o600)
    return issued


def test_the_proxy_serves_the_certificate_that_somebody_brings(provided: Issued) -> None:
    given = {**PROVIDED, "provided": {**PROVIDED["provided"], "passphrase": "hunter22"}}
    graph = deployed("local", certificate=given)
    assert _installed(graph)[f"{_TLS}/certificate.pem"] == provided.chain_pem
    assert _installed(graph)[f"{_TLS}/private_key.pem"] == provided.key_pem
    assert "uploads" in graph.named("edge-nginx-installer").secret_inputs
    assert "ssl_ciphers ECDHE-RSA-" in _configuration(graph)
    assert "Strict-Transport-Security" in _configuration(graph)
    assert graph.returned["ca_certificate"] is None
    assert graph.returned["certificate"] == {"mode": "provided", "subject_names": ["localhost", "127.0.0.1"]}


def test_a_certificate_that_ends_soon_is_a_warning_of_the_update(
    provided: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del provided
    issued = server(["localhost", "127.0.0.1"], authority("Test issuing", authority("Test root")), days=(-9, 9))
    (tmp_path / "chain.pem").write_text(issued.chain_pem)
    (tmp_path / "key.pem").write_text(issued.key_pem)
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    deployed("local", certificate=PROVIDED)
    deployed("local", certificate={**PROVIDED, "warn_before": "7d"})
    assert len(said) == 1
    assert said[0].startswith("certificate.provided: expires on ")


def test_the_authority_outlives_a_change_of_mode(provided: Issued) -> None:
    del provided
    given = {**PROVIDED, "provided": {**PROVIDED["provided"], "passphrase": "hunter22"}}
    assert deployed("local", certificate=given).identities() == deployed("local").identities()


def test_a_certificate_that_is_refused_stops_the_program(provided: Issued) -> None:
    del provided
    with pytest.raises(pulumi.RunError, match=r'private_key_file: "key\.pem" is encrypted'):
        deployed("local", certificate=PROVIDED)


def test_the_stack_s_own_certificate_covers_additional_names() -> None:
    graph = deployed("local", certificate={"additional_names": ["*.example.com", "192.0.2.7"]})
    request = graph.named("edge-certificate-request").inputs
    assert request["dnsNames"] == ["localhost", "*.example.com"]
    assert request["ipAddresses"] == ["127.0.0.1", "192.0.2.7"]
    assert graph.returned["certificate"]["subject_names"] == ["localhost", "127.0.0.1", "*.example.com", "192.0.2.7"]


def _published(graph: Graph) -> set[tuple[str, float, str]]:
    return {
        (port["ip"], port["external"], port["protocol"]) for port in graph.named("edge-nginx-server").inputs["ports"]
    }


def test_what_make_down_keeps_keeps_no_container(graph: Graph) -> None:
    # An engine's removal of all that is not protected leaves what the protected depends on, too.
    for one in graph.resources:
        if one.protect:
            assert not {needed.name for needed in graph.needed_by(one)} & {c.name for c in graph.of("Container")}, (
                one.name
            )


def test_ipv6_is_published_where_the_engine_shows_who_comes() -> None:
    graph = deployed("local", shows_ipv6_clients=True)
    assert {address for address, _, _ in _published(graph)} == {"127.0.0.1", "::1"}
    assert graph.named("edge-host-network").inputs["ipv6"] is True
    assert "listen [::]:6443 so_keepalive=60s:60s:3;" in _configuration(graph)


@pytest.mark.parametrize("name", ["local", "measured"])
def test_no_port_inside_a_container_is_published_at_two_addresses(name: str) -> None:
    # Its provider would compare them in the order in which an engine lists them, which is not fixed.
    for one in deployed(name, shows_ipv6_clients=True).of("Container"):
        addresses: dict[float, set[str]] = {}
        for port in one.inputs.get("ports", ()):
            addresses.setdefault(port["internal"], set()).add(port["ip"])
        assert all(len(at) == 1 for at in addresses.values()), one.name


@pytest.mark.parametrize(
    ("shows_ipv6_clients", "listen"),
    [(False, {}), (True, {"ipv6": False}), (True, {"address": "127.0.0.2"})],
    ids=["the engine hides them", "not wanted", "no address belongs to it"],
)
def test_ipv6_is_not_published_otherwise(*, shows_ipv6_clients: bool, listen: Mapping[str, Any]) -> None:
    graph = deployed("local", shows_ipv6_clients=shows_ipv6_clients, site={"listen": listen})
    assert not [address for address, _, _ in _published(graph) if ":" in address]
    assert "ipv6" not in graph.named("edge-host-network").inputs
    assert "[::]" not in _configuration(graph)


def test_http_3_has_the_https_port_for_udp_too() -> None:
    assert _published(deployed("measured")) == {
        ("0.0.0.0", 8080, "tcp"),
        ("0.0.0.0", 8443, "tcp"),
        ("0.0.0.0", 8443, "udp"),
    }


def test_metrics_are_published_for_the_host_alone_on_a_network_of_their_own() -> None:
    graph = deployed("measured")
    endpoint = graph.named("edge-nginx-metrics-endpoint")
    assert [(port["ip"], port["external"]) for port in endpoint.inputs["ports"]] == [("127.0.0.1", 9113)]
    exporter = graph.named("edge-nginx-metrics-exporter")
    # It has published them itself once, and is replaced first.
    assert "ports" not in exporter.inputs
    assert exporter.name in endpoint.after
    for one in (endpoint, exporter):
        assert [network["name"] for network in one.inputs["networksAdvanced"]] == ["edge-unit-metrics-network"]
        assert not one.inputs["capabilities"].get("adds")
        assert one.inputs["readOnly"]


def test_prometheus_is_told_what_the_settings_say_and_published_for_the_host_alone() -> None:
    graph = deployed("monitored")
    server = graph.named("edge-prometheus-server").inputs
    assert [(port["ip"], port["external"], port["internal"]) for port in server["ports"]] == [("127.0.0.1", 9091, 9090)]
    assert {"--storage.tsdb.retention.time=604800s", "--storage.tsdb.retention.size=268435456B"} <= set(
        server["command"]
    )
    files = {upload["file"].rpartition("/")[2]: upload["content"] for upload in server["uploads"]}
    assert set(files) == {"prometheus.yml", "recording.yaml", "alerts.yaml", "status.html"}
    reported = yaml.safe_load(files["prometheus.yml"])
    targets = {
        entry["labels"]["instance"]: (job["job_name"], *entry["targets"])
        for job in reported["scrape_configs"]
        for entry in job["static_configs"]
    }
    assert targets == {
        "nginx": ("proxy", "nginx:9145"),
        "request-counter": ("requests", "request-counter:3903"),
        "open-webui-1": ("replica", "open-webui-1:8079"),
        "open-webui-2": ("replica", "open-webui-2:8079"),
    }
    assert graph.returned["status_page"] == "http://127.0.0.1:9091/consoles/status.html"


def test_what_counts_reads_the_proxy_s_log_and_changes_nothing() -> None:
    graph = deployed("monitored")
    counter = graph.named("edge-prometheus-request-counter").inputs
    mounted = {mount["volumeName"]: mount["readOnly"] for mount in counter["volumes"]}
    assert mounted == {"edge-unit-nginx-metrics": True}
    assert counter["readOnly"]
    assert not counter["capabilities"].get("adds")
    assert not counter.get("ports")
    assert counter["user"] == "65534:65534"


def test_what_counts_runs_the_image_of_the_application_under_a_name_of_its_own() -> None:
    graph = deployed("monitored")
    pin, application = (graph.named(f"edge-{role}-image-pin").inputs for role in ("request-counter", "open-webui"))
    assert pin["sourceImage"] == application["sourceImage"]
    assert pin["targetImage"] == "edge-unit-request-counter:pinned"


def test_prometheus_runs_as_root_without_its_rights() -> None:
    server = deployed("monitored").named("edge-prometheus-server").inputs
    assert not server["capabilities"].get("adds")
    # What it is given is readable for root alone.
    assert server["user"] == "0:0"


def test_monitoring_changes_no_container_that_was_there() -> None:
    monitored, before = deployed("monitored"), deployed("monitored", monitoring={})
    # The installer brings the new configuration, by a reload.
    for resource in before.of("Container"):
        result, expected = ({**one.inputs, "labels": []} for one in (monitored.named(resource.name), resource))
        if resource.name == "edge-nginx-installer":
            assert result.pop("uploads") != expected.pop("uploads")
        assert result == expected, resource.name


def test_what_a_certificate_changes_replaces_the_installer_alone() -> None:
    graph = deployed("local")
    files = _installed(graph)
    assert files["/etc/open-webui-edge/candidate/certificate_source"] == "own"
    assert files["/etc/open-webui-edge/candidate/warn_before"] == str(14 * 24 * 60 * 60)
    proxy, installer = (graph.named(f"edge-nginx-{which}").inputs for which in ("server", "installer"))
    # Whatever the mode is, so that another one changes nothing here.
    mounted = {mount["containerPath"]: (mount["volumeName"], mount["readOnly"]) for mount in proxy["volumes"]}
    assert mounted["/var/lib/open-webui-edge"] == ("edge-unit-certificates", True)
    assert mounted["/etc/open-webui-edge"] == ("edge-unit-nginx-configuration", False)
    assert {mount["containerPath"]: mount["readOnly"] for mount in installer["volumes"]} == {
        "/etc/open-webui-edge": False,
        "/var/lib/open-webui-edge": True,
    }


def test_authorities_of_clients_are_installed_beside_the_configuration() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
    door = {"mode": "client-certificates", "client_certificates": {"authorities": pem}}
    files = _installed(deployed("local", proxy={"authentication": door}))
    assert files["/etc/open-webui-edge/candidate/tls/client_authorities.pem"] == pem


def _installed(graph: Graph) -> dict[str, str]:
    return {upload["file"]: upload["content"] for upload in graph.named("edge-nginx-installer").inputs["uploads"]}


def _configuration(graph: Graph) -> str:
    return _installed(graph)["/etc/open-webui-edge/candidate/nginx.conf"]


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ({}, {"WEBUI_AUTH_COOKIE_SAME_SITE": "lax", "ENABLE_WEBSOCKET_SUPPORT": "true"}),
        (
            {"embedding": {"allowed_origins": ["https://intranet.example.com"]}},
            {"WEBUI_AUTH_COOKIE_SAME_SITE": "none", "WEBUI_SESSION_COOKIE_SAME_SITE": "none"},
        ),
        ({"embedding": {"allowed_origins": ["https://a.example"]}}, {"WEBUI_AUTH_COOKIE_SECURE": "true"}),
        ({"websocket": {"enabled": False}}, {"ENABLE_WEBSOCKET_SUPPORT": "false"}),
        (
            {"cors": {"allowed_origins": ["https://portal.example.com"]}},
            {"CORS_ALLOW_ORIGIN": "https://localhost:8443;https://127.0.0.1:8443;https://portal.example.com"},
        ),
        ({"limits": {"max_upload": "7MiB"}}, {"RAG_FILE_MAX_SIZE": "7"}),
    ],
)
def test_the_application_agrees_with_its_proxy(proxy: Mapping[str, Any], said: Mapping[str, str]) -> None:
    environment = _given(deployed("local", proxy=proxy))["environment"]
    assert {name: environment[name] for name in said} == said


def test_what_holds_data_is_protected_and_retained(graph: Graph) -> None:
    held = {
        resource.name
        for resource in graph.resources
        if resource.type.endswith((":PrivateKey", ":Volume", ":SelfSignedCert"))
        and resource.name
        not in {
            "edge-certificate-key",
            "edge-certificate-key-2",
            "edge-nginx-cache",
            "edge-nginx-certificates",
            "edge-nginx-configuration",
            "edge-nginx-metrics",
            "edge-backup-copy",
            "edge-backup-work",
            # What was counted is not what a person made.
            "edge-prometheus-data",
        }
        and "-given" not in resource.name
    }
    # Protected resources cannot be deleted, and existing backups stay when backups are disabled.
    given_up = {"edge-backup-repository"}
    assert {resource.name for resource in graph.resources if resource.protect and resource.custom} == held - given_up
    assert {resource.name for resource in graph.resources if resource.retain and resource.custom} == held


def test_every_docker_resource_is_on_the_host_that_the_settings_name(graph: Graph) -> None:
    for resource in graph.resources:
        if resource.type.startswith("docker:"):
            assert "edge-host-engine" in resource.provider, resource.name


def test_everything_on_the_engine_says_whose_it_is(graph: Graph) -> None:
    for resource in graph.resources:
        if resource.type in {"docker:index/container:Container", "docker:index/volume:Volume"}:
            assert {"app", "stack", "role", "deployment"} <= set(resource.labels), resource.name
            assert resource.hooks, resource.name


def test_containers_keep_the_house_rules(graph: Graph) -> None:
    for container in graph.of("Container"):
        inputs = container.inputs
        assert inputs["securityOpts"] == ["no-new-privileges:true"], container.name
        assert inputs["capabilities"]["drops"] == ["ALL"], container.name
        assert inputs["memory"] == inputs["memorySwap"] != 0, container.name
        assert inputs["logOpts"] == {"max-file": "3", "max-size": "10m"}, container.name
        assert not inputs.get("privileged"), container.name
        assert not inputs.get("mounts"), container.name
        assert all("hostPath" not in mount for mount in inputs.get("volumes", ())), container.name
        if inputs["mustRun"]:
            assert inputs["restart"] == "unless-stopped", container.name
            assert inputs["healthcheck"]["tests"], container.name


def test_images_are_run_by_id() -> None:
    for container in deployed("everything").of("Container"):
        assert container.inputs["image"] == "sha256:0123", container.name


def test_a_mirror_holds_the_official_images_under_their_own_paths() -> None:
    names = {image.inputs["name"] for image in deployed("everything").of("RemoteImage")}
    assert names == {
        "registry.example.com/mirror/library/nginx:1.30.6",
        "registry.example.com/mirror/open-webui/open-webui:v0.12.4",
        "registry.example.com/mirror/ollama/ollama:0.34.2",
    }


def test_no_secret_is_in_a_property_that_is_not_secret() -> None:
    derived = {derive("PRIVATE KEY", purpose) for purpose in ("PostgreSQL", "Redis", "WEBUI_SECRET_KEY")}
    secrets = {
        API_KEY,
        PASSWORD,
        AWS_SECRET,
        SECRET_KEY,
        FORMER_KEY,
        CLIENT_SECRET,
        HMAC_KEY,
        "PRIVATE KEY",
        "hunter22",
        *derived,
    }
    for resource in (resource for stack in STACKS for resource in deployed(stack).resources):
        for key, value in resource.inputs.items():
            if any(secret in text for text in _texts(value) for secret in secrets):
                assert key in resource.secret_inputs or resource.type.startswith("tls:"), f"{resource.name}.{key}"


def test_secrets_reach_a_container_as_a_file_that_only_root_reads() -> None:
    for container in (container for stack in STACKS for container in deployed(stack).of("Container")):
        assert "envs" not in container.inputs, container.name
        mounted = tuple(mount["containerPath"] for mount in container.inputs.get("volumes", ()))
        for upload in container.inputs.get("uploads", ()):
            assert upload["permissions"] == "0600"
            assert upload["file"].startswith(mounted), upload["file"]
            # The provider refuses a file without content.
            assert upload["content"], upload["file"]


def test_the_application_is_told_what_follows_from_the_settings() -> None:
    given = _given(deployed("everything"))
    assert given["environment"] == {
        "CORS_ALLOW_ORIGIN": "https://chat.example.com:8443;https://192.0.2.10:8443",
        "ENABLE_OLLAMA_API": "true",
        "ENABLE_OPENAI_API": "true",
        "ENABLE_SIGNUP": "false",
        "ENABLE_WEBSOCKET_SUPPORT": "true",
        "FORWARDED_ALLOW_IPS": "172.30.0.0/16",
        "OLLAMA_BASE_URL": "http://ollama:11434",
        "PORT": "8080",
        "TMPDIR": "/app/backend/data/.temporary/1",
        "RAG_FILE_MAX_SIZE": "1024",
        "UVICORN_WORKERS": "1",
        "UVICORN_WS_PER_MESSAGE_DEFLATE": "false",
        "WEBUI_ADMIN_EMAIL": "admin@example.com",
        "WEBUI_ADMIN_NAME": "Admin",
        "WEBUI_ADMIN_PASSWORD": PASSWORD,
        "WEBUI_AUTH_COOKIE_SAME_SITE": "lax",
        "WEBUI_AUTH_COOKIE_SECURE": "true",
        "WEBUI_NAME": "Chat",
        "WEBUI_SECRET_KEY": given["environment"]["WEBUI_SECRET_KEY"],
        "WEBUI_SESSION_COOKIE_SAME_SITE": "lax",
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_URL": "https://chat.example.com:8443",
    }
    assert len(given["environment"]["WEBUI_SECRET_KEY"]) >= 32
    assert given["saved_settings"] == {
        "openai.api_base_urls": ["https://api.example.com/v1"],
        "openai.api_configs": {},
        "openai.api_keys": [API_KEY],
    }


def test_providers_left_out_belong_to_the_admin_panel() -> None:
    given = _given(deployed("local"))
    assert given["saved_settings"] == {}
    assert "ENABLE_OPENAI_API" not in given["environment"]
    assert given["environment"]["OLLAMA_BASE_URL"] == "http://host.docker.internal:11434"


def test_generated_secrets_differ_by_purpose() -> None:
    graph = deployed("generated-password")
    given = _given(graph)["environment"]
    assert given["WEBUI_ADMIN_PASSWORD"] != given["WEBUI_SECRET_KEY"]
    assert graph.returned["admin_password"] == given["WEBUI_ADMIN_PASSWORD"]
    assert graph.secret_outputs == {"admin_password", "backup_password"}
    assert graph.returned["backup_password"] not in given.values()


def test_the_application_is_told_of_the_provider_at_which_people_sign_in() -> None:
    graph = deployed("oidc")
    environment = _given(graph)["environment"]
    reported = {name: value for name, value in environment.items() if "OAUTH" in name or "OPENID" in name}
    assert reported == {
        "ENABLE_OAUTH_GROUP_CREATION": "true",
        "ENABLE_OAUTH_GROUP_MANAGEMENT": "true",
        "ENABLE_OAUTH_ID_TOKEN_COOKIE": "true",
        "ENABLE_OAUTH_PERSISTENT_CONFIG": "false",
        "ENABLE_OAUTH_ROLE_MANAGEMENT": "true",
        "ENABLE_OAUTH_SIGNUP": "true",
        "OAUTH_ADMIN_ROLES": "admin",
        "OAUTH_ALLOWED_DOMAINS": "example.com,example.org",
        "OAUTH_ALLOWED_ROLES": "chat,staff",
        "OAUTH_CLIENT_ID": "chat",
        "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
        "OAUTH_CODE_CHALLENGE_METHOD": "S256",
        "OAUTH_GROUPS_CLAIM": "groups",
        "OAUTH_MERGE_ACCOUNTS_BY_EMAIL": "false",
        "OAUTH_PROVIDER_NAME": "Example Inc.",
        "OAUTH_ROLES_CLAIM": "realm_access.roles",
        "OAUTH_ROLES_SEPARATOR": ",",
        "OAUTH_SCOPES": "openid email profile",
        "OPENID_PROVIDER_URL": "https://auth.example.com/realms/staff/.well-known/openid-configuration",
        "OPENID_REDIRECT_URI": "https://localhost:8443/oauth/oidc/login/callback",
    }
    assert (environment["ENABLE_LOGIN_FORM"], environment["ENABLE_PASSWORD_AUTH"]) == ("false", "false")
    assert _given(graph)["certificate_authorities"] == AUTHORITIES
    assert graph.returned["oidc"] == {"redirect_uri": environment["OPENID_REDIRECT_URI"]}


def test_without_a_provider_nothing_is_said_of_one() -> None:
    graph = deployed("local")
    assert not any("OAUTH" in name or "LOGIN_FORM" in name for name in _given(graph)["environment"])
    assert "oidc" not in graph.returned
    assert "certificate_authorities" not in _given(graph)


def test_a_secret_key_of_one_s_own_reaches_every_replica() -> None:
    graph = deployed("own-secret-key")
    keys = [_given(graph, suffix)["environment"]["WEBUI_SECRET_KEY"] for suffix in ("", "-2")]
    assert keys == [SECRET_KEY, SECRET_KEY]
    generated = derive("PRIVATE KEY", "WEBUI_SECRET_KEY")
    assert _given(graph)["former_secret_keys"] == [generated, FORMER_KEY]


def test_the_next_generation_is_another_key_and_knows_those_before_it() -> None:
    first = _given(deployed("local"))
    third = _given(deployed("local", open_webui={"secret_key_generation": 3}))
    second = derive("PRIVATE KEY", "WEBUI_SECRET_KEY", 2)
    assert "former_secret_keys" not in first
    assert third["former_secret_keys"] == [second, first["environment"]["WEBUI_SECRET_KEY"]]
    assert third["environment"]["WEBUI_SECRET_KEY"] not in third["former_secret_keys"]


def test_a_retired_key_returns_to_the_generated_one() -> None:
    given = _given(deployed("local", open_webui={"former_secret_keys": [FORMER_KEY]}))
    assert given["environment"]["WEBUI_SECRET_KEY"] == derive("PRIVATE KEY", "WEBUI_SECRET_KEY")
    assert given["former_secret_keys"] == [FORMER_KEY]


def test_the_generated_secret_key_is_there_to_return_to() -> None:
    generated = "edge-open-webui-secret-key-key"
    beside_another = deployed("own-secret-key").named(generated)
    alone = deployed("replicas").named(generated)
    assert (beside_another.urn, beside_another.protect, beside_another.retain) == (alone.urn, True, True)


def test_a_volume_that_somebody_brings_is_mounted_and_is_no_resource() -> None:
    graph = deployed("existing-volume")
    replica = graph.named("edge-open-webui-replica")
    mounted = {mount["containerPath"]: mount["volumeName"] for mount in replica.inputs["volumes"]}
    assert mounted["/app/backend/data"] == "open-webui"
    assert "open-webui" not in {volume.inputs["name"] for volume in graph.of("Volume")}
    assert not [volume for volume in graph.of("Volume") if volume.labels["role"] == "open-webui-data"]


def test_a_further_variable_that_is_encrypted_in_the_file_is_a_secret_of_the_container() -> None:
    graph = deployed("local", open_webui={"environment": {"S3_SECRET_ACCESS_KEY": AWS_SECRET}})
    holders = [one for one in graph.resources if AWS_SECRET in str(one.inputs)]
    assert [one.name for one in holders] == ["edge-open-webui-replica"]
    assert "uploads" in holders[0].secret_inputs


def test_the_next_authority_signs_and_the_one_before_it_is_kept() -> None:
    first, second = deployed("local"), deployed("second-authority")
    for name in ("edge-certificate-ca", "edge-certificate-ca-key"):
        before, after = first.named(name), second.named(name)
        assert (after.urn, after.inputs, after.protect) == (before.urn, before.inputs, True)
        assert (second.named(f"{name}-2").protect, second.named(f"{name}-2").retain) == (True, True)
    assert second.named("edge-certificate-ca-2").inputs["subject"]["commonName"] == "edge-certificate unit CA 2"
    (signed,) = second.of("LocallySignedCert")
    assert signed.name == "edge-certificate-certificate-2"


def test_the_authority_signs_servers_only() -> None:
    authority = deployed("local").named("edge-certificate-ca").inputs
    assert authority["isCaCertificate"] is True
    assert authority["maxPathLength"] == 0
    assert authority["allowedUses"] == ["cert_signing", "crl_signing"]
    request = deployed("local").named("edge-certificate-request").inputs
    assert (request["dnsNames"], request["ipAddresses"]) == (["localhost"], ["127.0.0.1"])


def test_outputs_are_the_contract() -> None:
    assert deployed("local").returned == {
        "url": "https://localhost:8443",
        "ca_certificate": "CA CERTIFICATE",
        "certificate": {"mode": "self-signed", "subject_names": ["localhost", "127.0.0.1"]},
        "containers": {"nginx": ["edge-unit-nginx"], "open-webui": ["edge-unit-open-webui"]},
        "host": None,
        "backup_password": derive("PRIVATE KEY", "backup"),
    }


def test_a_preview_knows_what_the_settings_say_and_nothing_more() -> None:
    returned = deployed("local", preview=True).returned
    assert returned["url"] == "https://localhost:8443"
    assert returned["ca_certificate"] is UNKNOWN


def test_a_refused_configuration_fails_with_the_words_of_nginx() -> None:
    words = 'nginx: [emerg] unknown directive "nope" in nginx.conf:3'
    with pytest.raises(pulumi.RunError, match="unknown directive"):
        graph_of(
            lambda: OpenWebUIDeployment("edge", StackSettings()).outputs,
            computed={"docker:index/container:Container": {"exitCode": 1, "containerLogs": words}},
        )


def test_replicas_share_what_they_must_and_one_looks_after_it() -> None:
    graph = deployed("replicas")
    first, *others = (_given(graph, suffix) for suffix in ("", "-2", "-3"))
    assert first["first"]
    environment = first["environment"]
    assert environment["DATABASE_URL"] == (
        f"postgresql://open_webui:{derive('PRIVATE KEY', 'PostgreSQL')}@postgres:5432/open_webui"
    )
    assert environment["REDIS_URL"] == f"redis://:{derive('PRIVATE KEY', 'Redis')}@redis:6379/0"
    assert {name: environment[name] for name in environment if name in EXPECTED} == EXPECTED
    for number, other in enumerate(others, start=2):
        assert not other["first"]
        # Each empties its own at its start.
        own = {"ENABLE_DB_MIGRATIONS": "false", "TMPDIR": f"/app/backend/data/.temporary/{number}"}
        assert other["environment"] == {**environment, **own}
    for given in (first, *others):
        assert (given["announced"], given["drain"]) == (True, 90)
    for replica in graph.of("Container"):
        if replica.labels["role"] == "open-webui":
            # It must have the time that its launcher gives it.
            assert replica.inputs["destroyGraceSeconds"] == replica.inputs["stopTimeout"] == 120
            mounted = {mount["containerPath"]: mount["volumeName"] for mount in replica.inputs["volumes"]}
            assert mounted["/app/backend/data"] == "edge-unit-open-webui-data"


EXPECTED = {
    "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "false",
    "PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH": "1536",
    "PGVECTOR_USE_HALFVEC": "false",
    "REDIS_HEALTH_CHECK_INTERVAL": "60",
    "REDIS_SOCKET_CONNECT_TIMEOUT": "5",
    "REDIS_SOCKET_KEEPALIVE": "true",
    "UVICORN_WORKERS": "1",
    "VECTOR_DB": "pgvector",
    "WEBSOCKET_MANAGER": "redis",
}


def test_services_that_run_elsewhere_are_used_as_they_are() -> None:
    graph = deployed("replicas-of-others")
    environment = _given(graph)["environment"]
    assert (environment["DATABASE_URL"], environment["REDIS_URL"]) == (DATABASE_URL, REDIS_URL)
    # The setting to correct when one of them is wrong.
    assert _given(graph)["brought"] == {"DATABASE_URL": "data.postgres.url", "REDIS_URL": "data.redis.url"}
    assert _given(deployed("replicas"))["brought"] == {}
    # What a person says of them is not overruled.
    assert (environment["VECTOR_DB"], environment["REDIS_HEALTH_CHECK_INTERVAL"]) == ("qdrant", "30")
    assert environment["PGVECTOR_USE_HALFVEC"] == "true"
    assert not [container for container in graph.of("Container") if container.labels["role"] in {"postgres", "redis"}]


def test_further_replicas_change_nothing_for_the_first() -> None:
    def first(graph: Graph) -> dict[str, Any]:
        inputs = graph.named("edge-open-webui-replica").inputs
        return {key: value for key, value in inputs.items() if key != "labels"}

    assert first(deployed("replicas", open_webui={"replicas": 1, "drain": "90s"})) == first(deployed("replicas"))


def test_one_replica_shares_nothing() -> None:
    graph = deployed("local")
    given = _given(graph)
    assert (given["first"], given["announced"], given["drain"]) == (True, False, 600)
    assert not {"DATABASE_URL", "REDIS_URL", "WEBSOCKET_MANAGER", "ENABLE_DB_MIGRATIONS"} & set(given["environment"])


def test_replicas_change_one_after_the_other_and_end_before_what_they_lean_on() -> None:
    graph = deployed("replicas")
    after = {suffix: graph.named(f"edge-open-webui-replica{suffix}").after for suffix in ("", "-2", "-3")}
    assert {"edge-postgres-server", "edge-redis-server"} <= after[""]
    assert "edge-open-webui-replica" in after["-2"]
    assert "edge-open-webui-replica-2" in after["-3"]


def test_no_replica_changes_before_the_one_before_it_is_healthy() -> None:
    def unhealthy(_: Engine, identities: Sequence[str], _report: object) -> None:
        if "edge-open-webui-replica-2-id" in identities:
            raise EngineError("open-webui-2 is unhealthy")

    registered: list[Resource] = []
    settings = StackSettings.model_validate_json(json.dumps(STACKS["replicas"]))
    with pytest.raises(pulumi.RunError, match="open-webui-2 is unhealthy"):
        graph_of(
            lambda: OpenWebUIDeployment("edge", settings).outputs, registered=registered, wait_until_healthy=unhealthy
        )
    names = {resource.name for resource in registered}
    assert "edge-open-webui-replica-2" in names
    assert "edge-open-webui-replica-3" not in names


def test_two_versions_never_meet_on_one_database() -> None:
    pins = {pin.name: pin.removed_first for pin in deployed("replicas").of("Tag")}
    assert [name for name, removed_first in pins.items() if removed_first] == ["edge-open-webui-image-pin"]


def test_the_proxy_asks_the_readiness_sidecar() -> None:
    graph = deployed("replicas")
    watch = graph.named("edge-readiness-watch").inputs
    assert watch["command"] == ["open-webui", "open-webui-1", "open-webui-2", "open-webui-3"]
    aliases = [
        network["aliases"]
        for number in ("", "-2", "-3")
        for network in graph.named(f"edge-open-webui-replica{number}").inputs["networksAdvanced"]
    ]
    assert aliases == [["open-webui", "open-webui-1"], ["open-webui-2"], ["open-webui-3"]]
    # Replaced first, it answers a new proxy at once, and the old one keeps the addresses that it has.
    assert "edge-readiness-watch" in graph.named("edge-nginx-server").after
    assert not [resource for resource in deployed("local").resources if "readiness" in resource.name]


def test_containers_of_replicas_are_listed_by_role() -> None:
    assert deployed("replicas").returned["containers"] == {
        "nginx": ["edge-unit-nginx"],
        "open-webui": ["edge-unit-open-webui", "edge-unit-open-webui-2", "edge-unit-open-webui-3"],
        "postgres": ["edge-unit-postgres"],
        "readiness": ["edge-unit-readiness"],
        "redis": ["edge-unit-redis"],
    }


def _given(graph: Graph, suffix: str = "") -> dict[str, Any]:
    uploads = graph.named(f"edge-open-webui-replica{suffix}").inputs["uploads"]
    (content,) = (upload["content"] for upload in uploads if upload["file"].endswith("environment.json"))
    return json.loads(content)


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
