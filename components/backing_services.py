"""What the application leans on, when the settings ask for it."""

from pathlib import Path
from typing import TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.generated_secret import GeneratedSecret, GeneratedSecretArgs
from components.keeping import kept

_PORT = 11434
_GIVEN = "/run/open-webui-edge"
_PASSWORD = f"{_GIVEN}/password"
_POSTGRES = Path(__file__).with_name("postgres.sh")
_REDIS = Path(__file__).with_name("redis.sh")
# Root hands the volume to the server's user, of both images, and becomes that user; it reads the password before, which
# nobody else can. "$1" is what is run then.
_AS_ITS_USER = (
    f'chown 999:999 "$0" && exec 3< {_PASSWORD} &&'
    ' exec setpriv --reuid=999 --regid=999 --clear-groups /bin/sh -eu -c "$1"'
)
_CAPABILITIES = ("CHOWN", "SETGID", "SETUID")


class OllamaArgs(TypedDict):
    """An Ollama of this deployment's own."""

    image: pulumi.Input[str]
    """Id of the image."""
    network: pulumi.Input[str]
    gpu: bool
    """Give it all GPUs of the host."""
    memory: int
    """Limit in bytes."""


class Ollama(pulumi.ComponentResource):
    """Ollama with a volume for its models."""

    url: pulumi.Output[str]
    containers: pulumi.Output[list[str]]
    container_ids: pulumi.Output[list[str]]

    def __init__(self, name: str, args: OllamaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volume and the container."""
        super().__init__("open-webui-edge:index:Ollama", name, {}, opts)
        models = volume(f"{name}-models", "ollama-models", kept(self))
        server = container(
            f"{name}-server",
            pulumi.ResourceOptions(parent=self),
            role="ollama",
            image=args["image"],
            memory=args["memory"],
            volumes=[docker.ContainerVolumeArgs(volume_name=models.name, container_path="/root/.ollama")],
            network=args["network"],
            aliases=["ollama"],
            health=["CMD", "ollama", "list"],
            gpus="all" if args["gpu"] else "",
        )
        self.url = pulumi.Output.from_input(f"http://ollama:{_PORT}")
        self.containers = pulumi.Output.all(server.name)
        self.container_ids = pulumi.Output.all(server.id)
        self.register_outputs({"url": self.url, "containers": self.containers})


class PostgresArgs(TypedDict):
    """A PostgreSQL of this deployment's own."""

    image: pulumi.Input[str]
    """Id of the image."""
    major: int
    """Its major version, to which the data is tied."""
    network: pulumi.Input[str]
    memory: int
    """Limit in bytes."""


class Postgres(pulumi.ComponentResource):
    """PostgreSQL with pgvector and a volume for its data."""

    url: pulumi.Output[str]
    """Where the application finds its database; secret."""
    containers: pulumi.Output[list[str]]
    container_ids: pulumi.Output[list[str]]

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the password, the volumes and the container."""
        super().__init__("open-webui-edge:index:Postgres", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        password = GeneratedSecret(f"{name}-password", GeneratedSecretArgs(purpose="PostgreSQL"), kept(self)).value
        data = volume(f"{name}-data", "postgres-data", kept(self))
        given = volume(f"{name}-given", "postgres-given", child)
        home, programs = "/var/lib/postgresql", f"/usr/lib/postgresql/{args['major']}/bin"
        # A quarter, as PostgreSQL's manual advises for a machine of its own.
        variables = f"EDGE_MAJOR={args['major']} EDGE_SHARED_BUFFERS={args['memory'] >> 22}"
        server = container(
            f"{name}-server",
            child,
            role="postgres",
            image=args["image"],
            memory=args["memory"],
            # Where parallel queries and the building of vector indices meet.
            shared_memory=args["memory"] // 4,
            entrypoint=["/bin/sh", "-eu", "-c", _AS_ITS_USER, home],
            command=[f"{variables}\n{_POSTGRES.read_text()}"],
            capabilities=_CAPABILITIES,
            volumes=[
                docker.ContainerVolumeArgs(volume_name=data.name, container_path=home),
                docker.ContainerVolumeArgs(volume_name=given.name, container_path=_GIVEN),
            ],
            tmpfs={"/run/postgresql": "uid=999,gid=999,mode=0755"},
            files={_PASSWORD: password},
            network=args["network"],
            aliases=["postgres"],
            health=["CMD", f"{programs}/pg_isready", "--quiet", "--host=127.0.0.1", "--username=open_webui"],
            start_period="2m0s",
            # "Fast": ends the sessions and writes what is in memory. SIGTERM would wait for every session to end.
            stop_signal="SIGINT",
            stop_timeout=60,
        )
        self.url = pulumi.Output.secret(
            pulumi.Output.concat("postgresql://open_webui:", password, "@postgres:5432/open_webui")
        )
        self.containers = pulumi.Output.all(server.name)
        self.container_ids = pulumi.Output.all(server.id)
        self.register_outputs({"url": self.url, "containers": self.containers})


class RedisArgs(TypedDict):
    """A Redis of this deployment's own."""

    image: pulumi.Input[str]
    """Id of the image."""
    network: pulumi.Input[str]
    memory: int
    """Limit in bytes."""


class Redis(pulumi.ComponentResource):
    """Valkey, which speaks Redis' protocol, with a volume for its data."""

    url: pulumi.Output[str]
    """Where the application finds it; secret."""
    containers: pulumi.Output[list[str]]
    container_ids: pulumi.Output[list[str]]

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the password, the volumes and the container."""
        super().__init__("open-webui-edge:index:Redis", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        password = GeneratedSecret(f"{name}-password", GeneratedSecretArgs(purpose="Redis"), kept(self)).value
        data = volume(f"{name}-data", "redis-data", kept(self))
        given = volume(f"{name}-given", "redis-given", child)
        # The rest is for clients' buffers and for the copy that writing the file anew takes.
        variables = f"EDGE_MEMORY={args['memory'] * 6 // 10 >> 20}"
        server = container(
            f"{name}-server",
            child,
            role="redis",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-eu", "-c", _AS_ITS_USER, "/data"],
            command=[f"{variables}\n{_REDIS.read_text()}"],
            capabilities=_CAPABILITIES,
            volumes=[
                docker.ContainerVolumeArgs(volume_name=data.name, container_path="/data"),
                docker.ContainerVolumeArgs(volume_name=given.name, container_path=_GIVEN),
            ],
            files={_PASSWORD: password},
            network=args["network"],
            aliases=["redis"],
            # By standard input: an argument could be read by others.
            health=[
                "CMD-SHELL",
                f"printf 'AUTH %s\\nPING\\n' \"$(cat {_PASSWORD})\" | valkey-cli | grep --quiet PONG",
            ],
            stop_timeout=30,
        )
        self.url = pulumi.Output.secret(pulumi.Output.concat("redis://:", password, "@redis:6379/0"))
        self.containers = pulumi.Output.all(server.name)
        self.container_ids = pulumi.Output.all(server.id)
        self.register_outputs({"url": self.url, "containers": self.containers})
