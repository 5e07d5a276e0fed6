"""The application: image, replicas, volumes, environment."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from open_webui_edge.components.container_group import ContainerGroup
from open_webui_edge.components.docker.container import container, volume
from open_webui_edge.components.docker.image import pinned_image
from open_webui_edge.components.docker.upgrade_trial import Release, after_trial
from open_webui_edge.components.docker.waiting import after_healthy
from open_webui_edge.components.generated_secret import GeneratedSecret, GeneratedSecretArgs
from open_webui_edge.components.open_webui_environment import DEFAULTS as SIGN_IN_DEFAULTS
from open_webui_edge.components.open_webui_environment import OidcArgs, variables_of
from open_webui_edge.components.protection import protected
from open_webui_edge.engine.engine import Engine
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR, PORT, TEMPORARY

_ROLE = "open-webui"
_ENVIRONMENT = "environment.json"
_ENTRYPOINT = ["python3", f"{CONFIG_DIR}/launch.py", CONFIG_DIR]
_COMMAND = ["bash", "start.sh"]
# GET with its body: Open WebUI answers HEAD and unknown paths with 200 whatever happens.
_READY = f"curl --fail --silent --max-time 4 http://127.0.0.1:{PORT}/ready | grep --quiet '\"status\": *true'"
_MAX_INDEXED_DIMENSIONS = 2000
"""Longest vector of 32-bit numbers that pgvector can index (its README)."""
_SHUTDOWN_MARGIN = 30
"""Seconds after the drain for the launcher to end and the application to close its connections."""
_Keys = tuple[pulumi.Input[str], pulumi.Output[Sequence[str]] | None]
"""The key in use, and the previous ones, if there are any."""
CONFIG_VOLUME = "open-webui-given"
"""Role of the volume with settings and programs. Existing volumes are called so, so the value stays."""


class ProviderArgs(TypedDict):
    """An OpenAI-compatible API."""

    url: pulumi.Input[str]
    api_key: NotRequired[pulumi.Input[str]]


class AdminArgs(TypedDict):
    """The first account, an administrator."""

    email: pulumi.Input[str]
    name: pulumi.Input[str]
    password: pulumi.Input[str]


class UpgradeArgs(TypedDict):
    """The trial of another release on the data."""

    timeout: int
    """Seconds that the release may take to migrate the database and to become ready."""
    snapshot: bool
    """Take a snapshot of the data first."""
    downgrade_from_snapshot: bool
    """Restore the snapshot of an earlier release that cannot read the database any more."""


class OpenWebUIArgs(TypedDict):
    """The application and its replicas."""

    image: str
    """Name of the image."""
    version: str
    """Its release."""
    upgrade: "UpgradeArgs"
    network: pulumi.Input[str]
    """Network that it shares with the proxy."""
    proxy_network: pulumi.Input[str]
    """CIDR of the addresses whose X-Forwarded-For header the application trusts."""
    url: str
    """The site's URL in the browser, without a path."""
    origins: Sequence[str]
    """Origins that browsers may call it from, the URL's own included."""
    embedded: bool
    """Whether other sites embed it in a frame; its cookies then need SameSite=None."""
    websocket: bool
    """Whether browsers use a WebSocket; otherwise they poll."""
    max_upload: int
    """Largest upload, in bytes."""
    memory: int
    """Memory limit of each replica, in bytes."""
    drain: int
    """Seconds that a stopping replica has to complete its answers."""
    replicas: NotRequired[int]
    """Default 1. More need a database and Redis."""
    database_url: NotRequired[pulumi.Input[str]]
    """URL of a PostgreSQL with pgvector; left out: SQLite and Chroma in the volume."""
    vector_length: NotRequired[int]
    """Dimensions of the embedding model's vectors, with a database. Default: the application's."""
    redis_url: NotRequired[pulumi.Input[str]]
    """Left out: shared state stays in the replica's memory."""
    external_services: NotRequired[Mapping[str, str]]
    """DATABASE_URL or REDIS_URL, if it points to a service outside of this deployment -> the setting to correct when
    it is wrong. External services must accept connections at once; the deployment's own may still be starting."""
    engine: NotRequired[pulumi.Input[str]]
    """Address of the Docker engine, for health checks between the updates of two replicas; left out: DOCKER_HOST, else
    /var/run/docker.sock."""
    ssh_options: NotRequired[Sequence[str]]
    """Options of ssh, with an address of ssh://."""
    providers: NotRequired[Sequence[ProviderArgs]]
    """Left out: the admin panel sets them."""
    ollama_url: NotRequired[pulumi.Input[str]]
    """Left out: no Ollama."""
    admin: NotRequired[AdminArgs]
    """Left out: the first user to sign up."""
    secret_key: NotRequired[pulumi.Input[str]]
    """Signs sessions and encrypts saved credentials. Left out: a generated key."""
    secret_key_generation: NotRequired[int]
    """Generation of the generated key. Default 1."""
    former_secret_keys: NotRequired[Sequence[pulumi.Input[str]]]
    """Previous keys: data that was encrypted with one of them is re-encrypted, as it is for earlier generations."""
    oidc: NotRequired[OidcArgs]
    """Left out: users sign in with a password."""
    certificate_authorities: NotRequired[pulumi.Input[str]]
    """PEM of the CAs that it trusts in addition to the public ones."""
    environment: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]]]
    volume: NotRequired[str]
    """Name of an existing volume with the data. Left out: a protected volume of this deployment."""


class OpenWebUI(ContainerGroup):
    """Replicas of Open WebUI with their data."""

    upstream: str
    """Name of the application on the shared network, common to all replicas."""
    replicas: Sequence[str]
    """Name of each replica on the shared network."""
    data: pulumi.Output[str]
    """Name of the volume with uploads and, without PostgreSQL, the database."""
    secret_key: pulumi.Input[str]
    """The key that signs sessions."""
    image_name: pulumi.Output[str]
    """Name of the image, known once a trial has proved that its release works with the data."""

    def __init__(self, name: str, args: OpenWebUIArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the volumes, the secret key and the containers."""
        # The first replica has the component's dependencies, each further one depends on the one before it. The
        # component itself has none: what a protected child depends on could not be deleted either.
        after = None if opts is None else opts.depends_on
        super().__init__("open-webui-edge:index:OpenWebUI", name, {}, _without_dependencies(opts))
        # Also with a key in the settings: the generated key is protected, and used again when the setting is removed.
        secret_args = GeneratedSecretArgs(purpose="WEBUI_SECRET_KEY")
        # Omit generation 1 so existing stacks see no diff.
        if (generation := args.get("secret_key_generation", 1)) > 1:
            secret_args["generation"] = generation
        keys = _keys(args, GeneratedSecret(f"{name}-secret-key", secret_args, opts=protected(self)))
        self.secret_key, _ = keys
        # Shared by all replicas: uploads are files. An existing volume is no resource, so Pulumi never deletes it.
        data = args["volume"] if "volume" in args else volume(f"{name}-data", "open-webui-data", protected(self)).name
        self.data = pulumi.Output.from_input(data)
        self.upstream = "open-webui"
        self.replicas = [f"{self.upstream}-{number}" for number in range(1, args.get("replicas", 1) + 1)]
        engine = Engine(None, ssh_options=args.get("ssh_options", ()), known="engine" not in args)
        address = pulumi.Output.from_input(args["engine"]).apply(engine.bind) if "engine" in args else None
        hosts = {"host.docker.internal": "host-gateway"}
        self.image_name = after_trial(
            engine,
            Release(args["version"], args["image"], _ROLE),
            {
                "memory": args["memory"],
                "network": args["network"],
                "data": self.data,
                "files": _files(args, keys, 1),
                "environment_file": _ENVIRONMENT,
                "entrypoint": _ENTRYPOINT,
                "command": _COMMAND,
                "hosts": hosts,
                "limit": args["upgrade"]["timeout"],
                "downgrade_from_snapshot": args["upgrade"]["downgrade_from_snapshot"],
                "drain": args["drain"] + _SHUTDOWN_MARGIN,
                # The trial has the dependencies of the first replica.
                "after": after,
            },
            engine_address=address,
        )
        # Not a child of this component: existing stacks have it next to the component.
        image = pinned_image(name, self.image_name, _ROLE, _without_dependencies(opts), one_at_a_time=True)
        replicas: list[docker.Container] = []
        for number, alias in enumerate(self.replicas, start=1):
            suffix = "" if number == 1 else f"-{number}"
            config = volume(f"{name}-given{suffix}", CONFIG_VOLUME, pulumi.ResourceOptions(parent=self), number=number)
            replica = container(
                f"{name}-replica{suffix}",
                pulumi.ResourceOptions(parent=self, depends_on=after),
                role=_ROLE,
                number=number,
                image=image,
                version=args["version"],
                memory=args["memory"],
                entrypoint=_ENTRYPOINT,
                command=_COMMAND,
                volumes=[
                    docker.ContainerVolumeArgs(volume_name=data, container_path=DATA_DIR),
                    docker.ContainerVolumeArgs(volume_name=config.name, container_path=CONFIG_DIR),
                ],
                files={f"{CONFIG_DIR}/{file}": content for file, content in _files(args, keys, number).items()},
                network=args["network"],
                aliases=[self.upstream, alias] if number == 1 else [alias],
                hosts=hosts,
                health=["CMD-SHELL", _READY],
                # A migration of a large database takes minutes, in which the health check fails.
                start_period="30m0s",
                stop_timeout=args["drain"] + _SHUTDOWN_MARGIN,
                init=True,
            )
            replicas.append(replica)
            # Once the engine's address is known.
            identities = pulumi.Output.all(address, replica.id).apply(lambda values: values[1:])
            after = after_healthy([replica], identities, engine)
        self._register(*replicas)


def _without_dependencies(opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    copy = pulumi.ResourceOptions.merge(opts, None)
    copy.depends_on = None
    return copy


def _keys(args: OpenWebUIArgs, generated: GeneratedSecret) -> _Keys:
    replaced = [generated.value] if "secret_key" in args else []
    current = args.get("secret_key", generated.value)
    former = args.get("former_secret_keys", ())
    if not (replaced or former or args.get("secret_key_generation", 1) > 1):
        return current, None
    return current, pulumi.Output.all(replaced, generated.former, [*former]).apply(
        lambda groups: [key for group in groups for key in group]
    )


def _files(args: OpenWebUIArgs, keys: _Keys, number: int) -> dict[str, pulumi.Input[str]]:
    """Return the files in a replica's configuration volume: name -> content."""
    return {
        _ENVIRONMENT: _environment(args, keys, number),
        "launch.py": delivery.program("open_webui/launch.py"),
        "figures.py": delivery.program("open_webui/container_metrics.py"),
        "upgrade.py": delivery.program("open_webui/upgrade.py"),
        "inside/sitecustomize.py": delivery.program("open_webui/task_reporter.py"),
    }


def _environment(args: OpenWebUIArgs, keys: _Keys, number: int) -> pulumi.Output[str]:
    """Return the JSON file that a replica's launcher reads; the whole of it is secret."""
    current_key, previous_keys = keys
    same_site = "none" if args["embedded"] else "lax"
    environment: dict[str, pulumi.Input[str]] = {
        "WEBUI_URL": args["url"],
        "WEBUI_SECRET_KEY": current_key,
        "CORS_ALLOW_ORIGIN": ";".join(args["origins"]),
        "FORWARDED_ALLOW_IPS": args["proxy_network"],
        "PORT": str(PORT),
        # By default /tmp, which is on the engine's disk and not on that of the data.
        "TMPDIR": f"{DATA_DIR}/{TEMPORARY}/{number}",
        # With Strict the browser would not send the cookie when an identity provider redirects back.
        "WEBUI_SESSION_COOKIE_SAME_SITE": same_site,
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_AUTH_COOKIE_SAME_SITE": same_site,
        "WEBUI_AUTH_COOKIE_SECURE": "true",
        # In mebibytes.
        "RAG_FILE_MAX_SIZE": str(args["max_upload"] >> 20),
        # Each token is a message: compressing it costs more than it saves.
        "UVICORN_WS_PER_MESSAGE_DEFLATE": "false",
        "UVICORN_WORKERS": "1",
        "ENABLE_WEBSOCKET_SUPPORT": "true" if args["websocket"] else "false",
        "ENABLE_OLLAMA_API": "true" if "ollama_url" in args else "false",
    }
    saved_settings: dict[str, pulumi.Input[object]] = {}
    if "ollama_url" in args:
        environment["OLLAMA_BASE_URL"] = args["ollama_url"]
    if "providers" in args:
        environment["ENABLE_OPENAI_API"] = "true" if args["providers"] else "false"
        # Not as variables: these are lists separated by semicolons, and a key may contain one.
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
    shared, defaults = _shared(args)
    environment |= shared
    if "oidc" in args:
        environment |= variables_of(args["oidc"], args["url"])
        defaults |= SIGN_IN_DEFAULTS
    if number > 1:
        # Only the first replica runs migrations.
        environment["ENABLE_DB_MIGRATIONS"] = "false"
    merged = pulumi.Output.all(defaults, args.get("environment", {}), environment).apply(
        lambda layers: {name: value for layer in layers for name, value in layer.items()}
    )
    document: dict[str, pulumi.Input[object]] = {
        "environment": merged,
        "saved_settings": saved_settings,
        # Only the first replica migrates the tables and writes saved settings.
        "first": number == 1,
        # Also with one replica, so that adding a second one does not change the first.
        "announced": "database_url" in args and "redis_url" in args,
        "drain": args["drain"],
        "version": args["version"],
        "snapshot": args["upgrade"]["snapshot"],
        # The launcher's key; it keeps its name in existing volumes.
        "brought": args.get("external_services", {}),
    }
    if previous_keys is not None:
        document["former_secret_keys"] = previous_keys
    if "certificate_authorities" in args:
        document["certificate_authorities"] = args["certificate_authorities"]
    return pulumi.Output.secret(pulumi.Output.json_dumps(document, sort_keys=True))


def _shared(args: OpenWebUIArgs) -> tuple[dict[str, pulumi.Input[str]], dict[str, pulumi.Input[str]]]:
    """Return the variables for database and Redis, and the defaults that the settings may override."""
    variables: dict[str, pulumi.Input[str]] = {}
    defaults: dict[str, pulumi.Input[str]] = {}
    if "database_url" in args:
        variables["DATABASE_URL"] = args["database_url"]
        defaults["VECTOR_DB"] = "pgvector"
        if "vector_length" in args:
            variables["PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH"] = str(args["vector_length"])
            variables["PGVECTOR_USE_HALFVEC"] = "true" if args["vector_length"] > _MAX_INDEXED_DIMENSIONS else "false"
    if "redis_url" in args:
        variables["REDIS_URL"] = args["redis_url"]
        variables["WEBSOCKET_MANAGER"] = "redis"
        # Detect a dead connection before a request needs it.
        defaults |= {
            "REDIS_HEALTH_CHECK_INTERVAL": "60",
            "REDIS_SOCKET_KEEPALIVE": "true",
            "REDIS_SOCKET_CONNECT_TIMEOUT": "5",
        }
    if "database_url" in args and "redis_url" in args:
        # Packages that one replica installs for a function are missing in the others.
        defaults["ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS"] = "false"
    return variables, defaults
