"""Services of the application that the settings enable: Ollama, PostgreSQL, Redis."""

from typing import NotRequired, TypedDict

import pulumi

from open_webui_edge.components.container_group import ContainerGroup, mount
from open_webui_edge.components.docker.container import container, volume
from open_webui_edge.components.generated_secret import GeneratedSecret, GeneratedSecretArgs
from open_webui_edge.components.outbound import OutboundArgs, files_of
from open_webui_edge.components.protection import protected
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import CONFIG_DIR
from open_webui_edge.settings.outbound import AUTHORITIES_FILE, PROXY_FILE

_PORT = 11434
# The proxy's variables may hold a secret, so they are in a file. Go reads the folder of the public CAs as well.
_OLLAMA_OUTBOUND = f"""\
if [ -s {CONFIG_DIR}/{PROXY_FILE} ]; then
    while IFS= read -r variable; do export "$variable"; done < {CONFIG_DIR}/{PROXY_FILE}
fi
if [ -s {CONFIG_DIR}/{AUTHORITIES_FILE} ]; then export SSL_CERT_FILE={CONFIG_DIR}/{AUTHORITIES_FILE}; fi
exec ollama serve
"""
_PASSWORD = f"{CONFIG_DIR}/password"
# Root gives the volume to the server's user (the same ID in both images), opens the password file, which only root can
# read, and switches to that user. "$1" is the command.
_AS_ITS_USER = (
    f'chown 999:999 "$0" && exec 3< {_PASSWORD} &&'
    ' exec setpriv --reuid=999 --regid=999 --clear-groups /bin/sh -eu -c "$1"'
)
_CAPABILITIES = ("CHOWN", "SETGID", "SETUID")


class ServiceArgs(TypedDict):
    """What all services take."""

    image: pulumi.Input[str]
    """ID of the image."""
    network: pulumi.Input[str]
    memory: int
    """Limit in bytes."""


class OllamaArgs(ServiceArgs):
    """Ollama, which belongs to this deployment."""

    gpu: bool
    """Whether it gets all GPUs of the host."""
    outbound: NotRequired[OutboundArgs]
    """How it reaches the registry of models."""


class Ollama(ContainerGroup):
    """Ollama with a volume for its models."""

    url: pulumi.Output[str]

    def __init__(self, name: str, args: OllamaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the volume and the container."""
        super().__init__("open-webui-edge:index:Ollama", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        models = volume(f"{name}-models", "ollama-models", protected(self))
        volumes = [mount(models.name, "/root/.ollama")]
        files = files_of(args["outbound"]) if "outbound" in args else {}
        if files:
            config = volume(f"{name}-given", "ollama-given", child)
            volumes.append(mount(config.name, CONFIG_DIR))
        server = container(
            f"{name}-server",
            child,
            role="ollama",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-euc"] if files else None,
            command=[_OLLAMA_OUTBOUND] if files else None,
            volumes=volumes,
            files={f"{CONFIG_DIR}/{file}": content for file, content in files.items()},
            network=args["network"],
            aliases=["ollama"],
            health=["CMD", "ollama", "list"],
            gpus="all" if args["gpu"] else "",
        )
        self.url = pulumi.Output.from_input(f"http://ollama:{_PORT}")
        self._register(server, url=self.url)


class PostgresArgs(ServiceArgs):
    """PostgreSQL, which belongs to this deployment."""

    major: int
    """Its major version, which the data depends on."""


class Postgres(ContainerGroup):
    """PostgreSQL with pgvector and a volume for its data."""

    url: pulumi.Output[str]
    """The database's URL; secret."""

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the password, the volumes and the container."""
        super().__init__("open-webui-edge:index:Postgres", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        password = GeneratedSecret(f"{name}-password", GeneratedSecretArgs(purpose="PostgreSQL"), protected(self)).value
        data = volume(f"{name}-data", "postgres-data", protected(self))
        config = volume(f"{name}-given", "postgres-given", child)
        home, programs = "/var/lib/postgresql", f"/usr/lib/postgresql/{args['major']}/bin"
        # A quarter, as PostgreSQL's manual recommends for a dedicated server.
        variables = f"EDGE_MAJOR={args['major']} EDGE_SHARED_BUFFERS={args['memory'] >> 22}"
        server = container(
            f"{name}-server",
            child,
            role="postgres",
            image=args["image"],
            memory=args["memory"],
            # For parallel queries and builds of vector indexes.
            shared_memory=args["memory"] // 4,
            entrypoint=["/bin/sh", "-eu", "-c", _AS_ITS_USER, home],
            command=[f"{variables}\n{delivery.program('services/postgres.sh')}"],
            capabilities=_CAPABILITIES,
            volumes=[mount(data.name, home), mount(config.name, CONFIG_DIR)],
            tmpfs={"/run/postgresql": "uid=999,gid=999,mode=0755"},
            files={_PASSWORD: password},
            network=args["network"],
            aliases=["postgres"],
            health=["CMD", f"{programs}/pg_isready", "--quiet", "--host=127.0.0.1", "--username=open_webui"],
            start_period="2m0s",
            # Fast shutdown: ends the sessions and writes a checkpoint. SIGTERM would wait for all sessions to end.
            stop_signal="SIGINT",
            stop_timeout=60,
        )
        self.url = pulumi.Output.secret(
            pulumi.Output.concat("postgresql://open_webui:", password, "@postgres:5432/open_webui")
        )
        self._register(server, url=self.url)


class RedisArgs(ServiceArgs):
    """Redis, which belongs to this deployment."""


class Redis(ContainerGroup):
    """Valkey, which speaks Redis' protocol, with a volume for its data."""

    url: pulumi.Output[str]
    """Its URL; secret."""

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the password, the volumes and the container."""
        super().__init__("open-webui-edge:index:Redis", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        password = GeneratedSecret(f"{name}-password", GeneratedSecretArgs(purpose="Redis"), protected(self)).value
        data = volume(f"{name}-data", "redis-data", protected(self))
        config = volume(f"{name}-given", "redis-given", child)
        # The rest is for clients' buffers and for the copy-on-write memory of a background save.
        variables = f"EDGE_MEMORY={args['memory'] * 6 // 10 >> 20}"
        # By standard input: other processes could read an argument.
        ping = f"printf 'AUTH %s\\nPING\\n' \"$(cat {_PASSWORD})\" | valkey-cli | grep --quiet PONG"
        server = container(
            f"{name}-server",
            child,
            role="redis",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-eu", "-c", _AS_ITS_USER, "/data"],
            command=[f"{variables}\n{delivery.program('services/redis.sh')}"],
            capabilities=_CAPABILITIES,
            volumes=[mount(data.name, "/data"), mount(config.name, CONFIG_DIR)],
            files={_PASSWORD: password},
            network=args["network"],
            aliases=["redis"],
            health=["CMD-SHELL", ping],
            stop_timeout=30,
        )
        self.url = pulumi.Output.secret(pulumi.Output.concat("redis://:", password, "@redis:6379/0"))
        self._register(server, url=self.url)
