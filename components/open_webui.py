"""The application: image, volumes, environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.generated_secret import GeneratedSecret, GeneratedSecretArgs
from components.keeping import kept

PORT = 8080
"""Where the image listens."""
_DATA = "/app/backend/data"
_GIVEN = "/run/open-webui-edge"
_LAUNCH = Path(__file__).with_name("launch.py")
# GET with its body: Open WebUI answers HEAD and unknown paths with 200 whatever happens.
_READY = f"curl --fail --silent --max-time 4 http://127.0.0.1:{PORT}/ready | grep --quiet '\"status\": *true'"


class ProviderArgs(TypedDict):
    """An OpenAI-compatible API."""

    url: pulumi.Input[str]
    api_key: NotRequired[pulumi.Input[str]]


class AdminArgs(TypedDict):
    """The first account."""

    email: pulumi.Input[str]
    name: pulumi.Input[str]
    password: pulumi.Input[str]


class OpenWebUIArgs(TypedDict):
    """What the application is told."""

    image: pulumi.Input[str]
    """Id of the image."""
    network: pulumi.Input[str]
    """Network that the proxy shares with it."""
    proxy_network: pulumi.Input[str]
    """CIDR of the addresses from which X-Forwarded-For is believed."""
    url: str
    """What the browser's address bar shows, without a path."""
    origins: Sequence[str]
    """Origins from which browsers may call it; the URL's own is among them."""
    max_upload: int
    """Largest upload, in bytes."""
    memory: int
    """Limit in bytes."""
    providers: NotRequired[Sequence[ProviderArgs]]
    """Left out: the admin panel keeps them."""
    ollama_url: NotRequired[pulumi.Input[str]]
    """Left out: no Ollama."""
    admin: NotRequired[AdminArgs]
    """Left out: whoever signs up first."""
    environment: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]]]


class OpenWebUI(pulumi.ComponentResource):
    """One replica of Open WebUI with its data."""

    containers: pulumi.Output[Sequence[str]]
    """Names of the containers."""
    container_ids: pulumi.Output[Sequence[str]]
    upstream: str
    """Where the proxy finds it, on the shared network."""

    def __init__(self, name: str, args: OpenWebUIArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volumes, the secret key and the container."""
        super().__init__("open-webui-edge:index:OpenWebUI", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        secret_key = GeneratedSecret(
            f"{name}-secret-key", GeneratedSecretArgs(purpose="WEBUI_SECRET_KEY"), opts=kept(self)
        )
        data = volume(f"{name}-data", "open-webui-data", kept(self))
        given = volume(f"{name}-given", "open-webui-given", child)
        self.upstream = "open-webui"
        application = container(
            f"{name}-replica",
            child,
            role="open-webui",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["python3", f"{_GIVEN}/launch.py", _GIVEN],
            command=["bash", "start.sh"],
            volumes=[
                docker.ContainerVolumeArgs(volume_name=data.name, container_path=_DATA),
                docker.ContainerVolumeArgs(volume_name=given.name, container_path=_GIVEN),
            ],
            files={
                f"{_GIVEN}/environment.json": _environment(args, secret_key.value),
                f"{_GIVEN}/launch.py": _LAUNCH.read_text(),
            },
            network=args["network"],
            aliases=[self.upstream],
            hosts={"host.docker.internal": "host-gateway"},
            health=["CMD-SHELL", _READY],
            # A migration of a large database takes minutes; until then a failing check is no failure.
            start_period="30m0s",
            # Generations in flight end by themselves in most cases.
            stop_timeout=60,
            init=True,
        )
        self.containers = pulumi.Output.all(application.name)
        self.container_ids = pulumi.Output.all(application.id)
        self.register_outputs({"containers": self.containers})


def _environment(args: OpenWebUIArgs, secret_key: pulumi.Output[str]) -> pulumi.Output[str]:
    """Write what the launcher gives to the application: one file, secret as a whole."""
    environment: dict[str, pulumi.Input[str]] = {
        "WEBUI_URL": args["url"],
        "WEBUI_SECRET_KEY": secret_key,
        "CORS_ALLOW_ORIGIN": ";".join(args["origins"]),
        "FORWARDED_ALLOW_IPS": args["proxy_network"],
        "PORT": str(PORT),
        # Strict would lose the cookie on the way back from an identity provider.
        "WEBUI_SESSION_COOKIE_SAME_SITE": "lax",
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_AUTH_COOKIE_SAME_SITE": "lax",
        "WEBUI_AUTH_COOKIE_SECURE": "true",
        # Whole mebibytes, as Open WebUI counts them.
        "RAG_FILE_MAX_SIZE": str(args["max_upload"] >> 20),
        # One message a token: compressing each costs more than it saves.
        "UVICORN_WS_PER_MESSAGE_DEFLATE": "false",
        "UVICORN_WORKERS": "1",
        "ENABLE_OLLAMA_API": "true" if "ollama_url" in args else "false",
    }
    saved_settings: dict[str, pulumi.Input[object]] = {}
    if "ollama_url" in args:
        environment["OLLAMA_BASE_URL"] = args["ollama_url"]
    if "providers" in args:
        environment["ENABLE_OPENAI_API"] = "true" if args["providers"] else "false"
        # The variables for these are lists with semicolons between, and a key may hold one.
        saved_settings["openai.api_base_urls"] = [provider["url"] for provider in args["providers"]]
        saved_settings["openai.api_keys"] = [provider.get("api_key", "") for provider in args["providers"]]
        saved_settings["openai.api_configs"] = {}
    if "admin" in args:
        environment |= {
            "ENABLE_SIGNUP": "false",
            "WEBUI_ADMIN_EMAIL": args["admin"]["email"],
            "WEBUI_ADMIN_NAME": args["admin"]["name"],
            "WEBUI_ADMIN_PASSWORD": args["admin"]["password"],
        }
    merged = pulumi.Output.all(args.get("environment", {}), environment).apply(lambda both: {**both[0], **both[1]})
    return pulumi.Output.secret(
        pulumi.Output.json_dumps({"environment": merged, "saved_settings": saved_settings}, sort_keys=True),
    )
