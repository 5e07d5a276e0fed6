"""The application: image, replicas, volumes, environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.docker.engine import Engine
from components.docker.health import once_healthy
from components.docker.image import pinned_image
from components.docker.trial import Wanted, once_tried
from components.generated_secret import GeneratedSecret, GeneratedSecretArgs
from components.keeping import kept
from components.sign_in import DEFAULTS as SIGN_IN_DEFAULTS
from components.sign_in import OidcArgs, variables_of

PORT = 8080
"""Where the image listens."""
_DATA = "/app/backend/data"
_GIVEN = "/run/open-webui-edge"
_ROLE = "open-webui"
_ENVIRONMENT = "environment.json"
_ENTRYPOINT = ["python3", f"{_GIVEN}/launch.py", _GIVEN]
_COMMAND = ["bash", "start.sh"]
_LAUNCH = Path(__file__).with_name("launch.py")
_FIGURES = Path(__file__).with_name("figures.py")
_UPGRADE = Path(__file__).with_name("upgrade.py")
_RUNNING_TASKS = Path(__file__).with_name("running_tasks.py")
# GET with its body: Open WebUI answers HEAD and unknown paths with 200 whatever happens.
_READY = f"curl --fail --silent --max-time 4 http://127.0.0.1:{PORT}/ready | grep --quiet '\"status\": *true'"
_LONGEST_VECTOR = 2000
"""Of pgvector's type with 32 bits a number, for an index (its README)."""
_AFTER_DRAIN = 30
"""Seconds that the launcher needs beside those for the answers, and the application to close what it holds."""


class ProviderArgs(TypedDict):
    """An OpenAI-compatible API."""

    url: pulumi.Input[str]
    api_key: NotRequired[pulumi.Input[str]]


class AdminArgs(TypedDict):
    """The first account."""

    email: pulumi.Input[str]
    name: pulumi.Input[str]
    password: pulumi.Input[str]


class UpgradeArgs(TypedDict):
    """What happens before another release works on the data."""

    timeout: int
    """Seconds that the release may take to migrate the database and to answer."""
    snapshot: bool
    """Whether what it may change is copied first."""
    downgrade_from_snapshot: bool
    """Whether an earlier release, which cannot read the database any more, gets its snapshot instead."""


class OpenWebUIArgs(TypedDict):
    """What the application is told."""

    image: str
    """Name of the image."""
    version: str
    """The release in it."""
    upgrade: "UpgradeArgs"
    network: pulumi.Input[str]
    """Network that the proxy shares with it."""
    proxy_network: pulumi.Input[str]
    """CIDR of the addresses from which X-Forwarded-For is believed."""
    url: str
    """What the browser's address bar shows, without a path."""
    origins: Sequence[str]
    """Origins from which browsers may call it; the URL's own is among them."""
    embedded: bool
    """Whether pages of other sites show it in a frame, which cookies must reach then."""
    websocket: bool
    """Whether browsers talk to it over a WebSocket; otherwise they ask again and again."""
    max_upload: int
    """Largest upload, in bytes."""
    memory: int
    """Limit of each replica, in bytes."""
    drain: int
    """Seconds that a replica that is to end has for the answers that it has begun."""
    replicas: NotRequired[int]
    """Default 1. More need a database and Redis."""
    database_url: NotRequired[pulumi.Input[str]]
    """Of a PostgreSQL with pgvector; left out: SQLite and Chroma in the volume."""
    vector_length: NotRequired[int]
    """With a database: how many numbers the embedding model makes of a text. Default: the application's."""
    redis_url: NotRequired[pulumi.Input[str]]
    """Left out: what replicas would share is in memory."""
    brought: NotRequired[Mapping[str, str]]
    """Which of DATABASE_URL and REDIS_URL lead to what is no part of this deployment -> the setting that a person has
    to mend when it is wrong. These must let the application in at once; the others may still be starting."""
    engine: NotRequired[pulumi.Input[str]]
    """Address of the Docker engine, which is asked whether one replica is healthy before the next changes; left out:
    DOCKER_HOST, else /var/run/docker.sock."""
    ssh_options: NotRequired[Sequence[str]]
    """With an address of ssh://: what ssh is given before it."""
    providers: NotRequired[Sequence[ProviderArgs]]
    """Left out: the admin panel keeps them."""
    ollama_url: NotRequired[pulumi.Input[str]]
    """Left out: no Ollama."""
    admin: NotRequired[AdminArgs]
    """Left out: whoever signs up first."""
    secret_key: NotRequired[pulumi.Input[str]]
    """Signs sessions and encrypts what is saved for others. Left out: one is made and kept."""
    secret_key_generation: NotRequired[int]
    """Which of those that are made is used. Default 1."""
    former_secret_keys: NotRequired[Sequence[pulumi.Input[str]]]
    """What is saved under one of these is written anew, as is what is saved under one that was made before."""
    oidc: NotRequired[OidcArgs]
    """Left out: people sign in with a password."""
    certificate_authorities: NotRequired[pulumi.Input[str]]
    """In PEM form: whom it trusts beside the well-known ones."""
    environment: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]]]
    volume: NotRequired[str]
    """A volume that exists and is somebody else's, with the data. Left out: one is made and kept."""


class OpenWebUI(pulumi.ComponentResource):
    """Replicas of Open WebUI with their data."""

    containers: pulumi.Output[Sequence[str]]
    """Names of the containers."""
    container_ids: pulumi.Output[Sequence[str]]
    upstream: str
    """Name of the application on the shared network; of more than one replica, the name that they are known by."""
    replicas: Sequence[str]
    """Name of each replica there."""
    data: pulumi.Output[str]
    """Name of the volume with uploads and, without a database, all the rest."""
    secret_key: pulumi.Input[str]
    """What signs sessions."""
    image_name: pulumi.Output[str]
    """Name of the image, known once its release has proved that it works with the data."""

    def __init__(self, name: str, args: OpenWebUIArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volumes, the secret key and the containers."""
        # What the whole waits for, the first replica does; and each further one for the one before it. The key is kept,
        # which must not keep what it has no need of.
        after = None if opts is None else opts.depends_on
        super().__init__("open-webui-edge:index:OpenWebUI", name, {}, _without_dependencies(opts))
        # Also where another is given: who drops that one returns to it, and what is protected cannot be given up.
        generated = GeneratedSecret(
            f"{name}-secret-key", _secret_key_args(args.get("secret_key_generation", 1)), opts=kept(self)
        )
        keys = _keys(args, generated)
        self.secret_key = keys.used
        # Shared by all: uploads are files. What somebody brings is no resource: Pulumi could delete it.
        data = args["volume"] if "volume" in args else volume(f"{name}-data", "open-webui-data", kept(self)).name
        self.data = pulumi.Output.from_input(data)
        self.upstream = "open-webui"
        count = args.get("replicas", 1)
        self.replicas = [f"{self.upstream}-{number}" for number in range(1, count + 1)]
        engine = Engine(None, ssh_options=args.get("ssh_options", ()), known="engine" not in args)
        found = pulumi.Output.from_input(args["engine"]).apply(engine.bind) if "engine" in args else None
        hosts = {"host.docker.internal": "host-gateway"}
        self.image_name = once_tried(
            engine,
            Wanted(args["version"], args["image"], _ROLE),
            {
                "memory": args["memory"],
                "network": args["network"],
                "volumes": self.data.apply(lambda volume: {volume: _DATA}),
                "folder": _GIVEN,
                "files": _files(args, keys, 1),
                "environment_file": _ENVIRONMENT,
                "entrypoint": _ENTRYPOINT,
                "command": _COMMAND,
                "hosts": hosts,
                "limit": args["upgrade"]["timeout"],
                "downgrade_from_snapshot": args["upgrade"]["downgrade_from_snapshot"],
                "drain": args["drain"] + _AFTER_DRAIN,
                # What the first replica waits for, the trial of it does too.
                "after": after,
            },
            found=found,
        )
        # Beside this component and not below it: there existing stacks have it.
        image = pinned_image(name, self.image_name, _ROLE, _without_dependencies(opts), one_at_a_time=True)
        replicas: list[docker.Container] = []
        for number, alias in enumerate(self.replicas, start=1):
            suffix = "" if number == 1 else f"-{number}"
            given = volume(
                f"{name}-given{suffix}", "open-webui-given", pulumi.ResourceOptions(parent=self), number=number
            )
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
                    docker.ContainerVolumeArgs(volume_name=data, container_path=_DATA),
                    docker.ContainerVolumeArgs(volume_name=given.name, container_path=_GIVEN),
                ],
                files={f"{_GIVEN}/{file}": content for file, content in _files(args, keys, number).items()},
                network=args["network"],
                aliases=[self.upstream, alias] if number == 1 else [alias],
                hosts=hosts,
                health=["CMD-SHELL", _READY],
                # A migration of a large database takes minutes; until then a failing check is no failure.
                start_period="30m0s",
                stop_timeout=args["drain"] + _AFTER_DRAIN,
                init=True,
            )
            replicas.append(replica)
            after = once_healthy([replica], _of_engine(found, replica.id), engine)
        self.containers = pulumi.Output.all(*(replica.name for replica in replicas))
        self.container_ids = pulumi.Output.all(*(replica.id for replica in replicas))
        self.register_outputs({"containers": self.containers})


def _without_dependencies(opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    copy = pulumi.ResourceOptions.merge(opts, None)
    copy.depends_on = None
    return copy


def _of_engine(found: pulumi.Output[str] | None, *container_ids: pulumi.Output[str]) -> pulumi.Output[Sequence[str]]:
    """Return the ids, once it is known where the engine is that is asked about them."""
    return pulumi.Output.all(found, *container_ids).apply(lambda values: values[1:])


class _Keys(NamedTuple):
    used: pulumi.Input[str]
    former: pulumi.Output[Sequence[str]] | None


def _secret_key_args(generation: int) -> GeneratedSecretArgs:
    purpose = "WEBUI_SECRET_KEY"
    # An input more would be a change to a stack that has the first one.
    if generation == 1:
        return GeneratedSecretArgs(purpose=purpose)
    return GeneratedSecretArgs(purpose=purpose, generation=generation)


def _keys(args: OpenWebUIArgs, generated: GeneratedSecret) -> _Keys:
    further = args.get("former_secret_keys", ())
    made, before = generated.value, generated.former
    if "secret_key" in args:
        return _Keys(args["secret_key"], pulumi.Output.all(made, before, *further).apply(_flat))
    if further or args.get("secret_key_generation", 1) > 1:
        return _Keys(made, pulumi.Output.all(before, *further).apply(_flat))
    return _Keys(made, None)


def _flat(values: Sequence[str | Sequence[str]]) -> Sequence[str]:
    return [one for value in values for one in ([value] if isinstance(value, str) else value)]


def _files(args: OpenWebUIArgs, keys: _Keys, number: int) -> dict[str, pulumi.Input[str]]:
    """Return what a replica is given: name -> content."""
    return {
        _ENVIRONMENT: _environment(args, keys, number),
        "launch.py": _LAUNCH.read_text(),
        "figures.py": _FIGURES.read_text(),
        "upgrade.py": _UPGRADE.read_text(),
        "inside/sitecustomize.py": _RUNNING_TASKS.read_text(),
    }


def _environment(args: OpenWebUIArgs, keys: _Keys, number: int) -> pulumi.Output[str]:
    """Write what the launcher of a replica gives to the application: one file, secret as a whole."""
    same_site = "none" if args["embedded"] else "lax"
    environment: dict[str, pulumi.Input[str]] = {
        "WEBUI_URL": args["url"],
        "WEBUI_SECRET_KEY": keys.used,
        "CORS_ALLOW_ORIGIN": ";".join(args["origins"]),
        "FORWARDED_ALLOW_IPS": args["proxy_network"],
        "PORT": str(PORT),
        # Strict would lose the cookie on the way back from an identity provider.
        "WEBUI_SESSION_COOKIE_SAME_SITE": same_site,
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_AUTH_COOKIE_SAME_SITE": same_site,
        "WEBUI_AUTH_COOKIE_SECURE": "true",
        # Whole mebibytes, as Open WebUI counts them.
        "RAG_FILE_MAX_SIZE": str(args["max_upload"] >> 20),
        # One message a token: compressing each costs more than it saves.
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
    shared, defaults = _shared(args)
    environment |= shared
    if "oidc" in args:
        environment |= variables_of(args["oidc"], args["url"])
        defaults |= SIGN_IN_DEFAULTS
    if number > 1:
        # Two that change the tables at once break them.
        environment["ENABLE_DB_MIGRATIONS"] = "false"
    merged = pulumi.Output.all(defaults, args.get("environment", {}), environment).apply(
        lambda layers: {name: value for layer in layers for name, value in layer.items()}
    )
    given: dict[str, pulumi.Input[object]] = {
        "environment": merged,
        "saved_settings": saved_settings,
        # Only one looks after the tables and the saved settings in them.
        "first": number == 1,
        # Also where it is the only one yet: a second one changes nothing for it.
        "announced": "database_url" in args and "redis_url" in args,
        "drain": args["drain"],
        "version": args["version"],
        "snapshot": args["upgrade"]["snapshot"],
        "brought": args.get("brought", {}),
    }
    if keys.former is not None:
        given["former_secret_keys"] = keys.former
    if "certificate_authorities" in args:
        given["certificate_authorities"] = args["certificate_authorities"]
    return pulumi.Output.secret(pulumi.Output.json_dumps(given, sort_keys=True))


def _shared(args: OpenWebUIArgs) -> tuple[dict[str, pulumi.Input[str]], dict[str, pulumi.Input[str]]]:
    """Return the variables for what replicas share, and those of them that a person may set otherwise."""
    variables: dict[str, pulumi.Input[str]] = {}
    defaults: dict[str, pulumi.Input[str]] = {}
    if "database_url" in args:
        variables["DATABASE_URL"] = args["database_url"]
        defaults["VECTOR_DB"] = "pgvector"
        if "vector_length" in args:
            variables["PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH"] = str(args["vector_length"])
            variables["PGVECTOR_USE_HALFVEC"] = "true" if args["vector_length"] > _LONGEST_VECTOR else "false"
    if "redis_url" in args:
        variables["REDIS_URL"] = args["redis_url"]
        variables["WEBSOCKET_MANAGER"] = "redis"
        # A connection whose other end is gone is noticed before somebody needs it.
        defaults |= {
            "REDIS_HEALTH_CHECK_INTERVAL": "60",
            "REDIS_SOCKET_KEEPALIVE": "true",
            "REDIS_SOCKET_CONNECT_TIMEOUT": "5",
        }
    if "database_url" in args and "redis_url" in args:
        # What one replica installs for a function, the others lack.
        defaults["ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS"] = "false"
    return variables, defaults
