"""The whole: the only place where the parts meet, and the only one that knows settings and components."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import pulumi
import pulumi_tls as tls

from components import images
from components.backing_services import Ollama, OllamaArgs, Postgres, PostgresArgs, Redis, RedisArgs
from components.backup.component import Backup, BackupArgs, DatabaseArgs, S3Args
from components.certificates.certbot import (
    Certbot,
    CertbotArgs,
    ExternalAccountArgs,
    IssuerArgs,
    Route53Args,
)
from components.certificates.self_signed import SelfSignedCertificate, SelfSignedCertificateArgs
from components.docker.arrival import ImagesToTake, once_answering
from components.docker.chosen import engine_of
from components.docker.container import volume
from components.docker.engine import Engine, EngineError
from components.docker.health import once_healthy
from components.docker.host import DockerHost, DockerHostArgs
from components.docker.image import pinned_image
from components.docker.ownership import Ownership
from components.docker.preflight import wanted_images
from components.docker.ssh import SshAccess, ssh_options
from components.generated_secret import GeneratedSecret, GeneratedSecretArgs, derive
from components.images import Image, ImageSource
from components.keeping import kept, kept_by_its_disk, release
from components.launch import DRAIN_PORT
from components.monitoring.component import Prometheus, PrometheusArgs
from components.open_webui import PORT, AdminArgs, OpenWebUI, OpenWebUIArgs, ProviderArgs, UpgradeArgs
from components.readiness.component import Readiness, ReadinessArgs
from components.reverse_proxy.component import CertificateSource, NginxReverseProxy, NginxReverseProxyArgs
from components.reverse_proxy.metrics import NginxMetrics, NginxMetricsArgs
from components.reverse_proxy.rendering import METRICS_PORT, render_configuration
from components.sign_in import GroupArgs, OidcArgs, RoleArgs, redirect_uri
from stacks.backup import RepositoryKind
from stacks.certificate import CertificateMode, Challenge, IssuerSettings, LetsEncryptSettings, Route53Settings
from stacks.data import BackingMode, DataSettings, PostgresSettings, RedisSettings
from stacks.models import OllamaMode, OllamaSettings, ProviderSettings
from stacks.oidc import OidcSettings
from stacks.open_webui import AdminSettings, Downgrade, OpenWebUISettings
from stacks.placement import Placement, placement_of
from stacks.settings import StackSettings
from stacks.values import is_ip_address, is_loopback

if TYPE_CHECKING:
    from components.aws.vm import AwsVm
    from components.certificates.provided import ProvidedCertificate

_CERTBOT_MEMORY = 256 << 20
_FIRST_START = 900
"""Seconds for a new instance to install Docker and answer."""
_RECORDS_ARE_WANTED = "Where your domain is kept, these records lead to the site (at the top of a zone, an ALIAS)"
_SERVERS_ARE_WANTED = "Your domain's registrar must know the name servers of its zone"
_WithContainers = (
    NginxReverseProxy | Certbot | OpenWebUI | Ollama | Postgres | Redis | Readiness | NginxMetrics | Prometheus | Backup
)


class OpenWebUIDeployment(pulumi.ComponentResource):
    """Open WebUI behind Nginx over HTTPS, as one stack's settings want it."""

    outputs: dict[str, pulumi.Output[object] | object]
    """What the stack exports, by name."""

    def __init__(self, name: str, settings: StackSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Build everything that the settings ask for."""
        super().__init__("open-webui-edge:index:OpenWebUIDeployment", name, {}, _released(settings, opts))
        self._settings = settings
        self._name = name
        self._placement = placement = placement_of(settings)
        vm = self._aws_vm(placement)
        self._engine = engine = _engine(settings)
        self._address = settings.platform.docker.host if vm is None else self._reached(vm)
        identity = tls.PrivateKey(f"{name}-identity", algorithm="ED25519", opts=kept(self))
        owned: list[pulumi.ResourceTransform] = [Ownership(engine, identity.public_key_fingerprint_sha256).claim]
        if vm is not None:
            owned.append(kept_by_its_disk(vm.host.instance))

        ipv6 = self._ipv6(engine, placement)
        host = DockerHost(
            f"{name}-host",
            self._host_args(ipv6=ipv6 is not None),
            pulumi.ResourceOptions(parent=self, transforms=owned),
        )
        on_host = pulumi.ResourceOptions(parent=self, provider=host.provider, transforms=owned)

        # Made in every mode: whoever trusts its authority can go on doing so when the mode is changed back.
        own = SelfSignedCertificate(
            f"{name}-certificate",
            SelfSignedCertificateArgs(
                common_name=settings.site.domain,
                dns_names=[name for name in settings.certificate_names if not is_ip_address(name)],
                ip_addresses=[name for name in settings.certificate_names if is_ip_address(name)],
                **_generation(settings.certificate.self_signed.generation),
            ),
            pulumi.ResourceOptions(parent=self),
        )
        provided = self._provided_certificate()
        admin = self._admin(settings.open_webui.admin)
        ollama = self._ollama(settings.models.ollama, host, on_host)
        postgres = self._postgres(settings.data.postgres, host, on_host)
        redis = self._redis(settings.data.redis, host, on_host)
        application = self._open_webui(host, on_host, admin, ollama, postgres, redis)
        readiness = self._readiness(application, host, on_host)
        nginx = self._image(images.NGINX, on_host)
        configuration = render_configuration(
            settings,
            stack=pulumi.get_stack(),
            upstreams=[f"{application.upstream}:{PORT}"],
            readiness=None if readiness is None else readiness.address,
            replicas=len(application.replicas),
            ipv6=ipv6 is not None,
            rsa_certificate=provided is not None and provided.rsa,
            acme_challenges=_asked_over_http(settings),
        )
        proxy = NginxReverseProxy(
            f"{name}-nginx",
            NginxReverseProxyArgs(
                image=nginx,
                # What it keeps is of one release: it changes with it, and not where that fails its trial.
                configuration=pulumi.Output.all(configuration, application.image_name).apply(lambda both: both[0]),
                certificate_pem=own.certificate_pem if provided is None else provided.certificate_pem,
                private_key_pem=(
                    own.private_key_pem if provided is None else pulumi.Output.secret(provided.private_key_pem)
                ),
                certificate_source=(
                    CertificateSource.OFFERED
                    if settings.certificate.mode is CertificateMode.LETS_ENCRYPT
                    else CertificateSource.OWN
                ),
                warn_before=round(settings.certificate.warn_before.total_seconds()),
                network=host.network,
                listen_addresses=[placement.listen_address, *([] if ipv6 is None else [ipv6])],
                http_port=placement.http_port,
                https_port=placement.https_port,
                http3=placement.http3,
                memory=settings.proxy.memory,
                **_client_authorities(settings),
            ),
            on_host,
        )
        # In every mode: what is protected could not be given up when the mode changes.
        letsencrypt = volume(f"{name}-letsencrypt", "letsencrypt", pulumi.ResourceOptions.merge(on_host, kept(self)))
        certbot = self._certbot(proxy, letsencrypt.name, host, on_host, [] if vm is None else vm.published)
        metrics = self._metrics(proxy, nginx, on_host)
        password = self._backup_password(identity)
        prometheus = self._prometheus(proxy, application, host, on_host)

        by_role = {
            "nginx": proxy,
            "certbot": certbot,
            "open-webui": application,
            "ollama": ollama,
            "postgres": postgres,
            "redis": redis,
            "readiness": readiness,
            "nginx-metrics": metrics,
            "backup": self._backup(application, postgres, password, host, on_host),
            "prometheus": prometheus,
        }
        # Some are not wanted, and some run elsewhere and are an address here.
        parts = {role: part for role, part in by_role.items() if isinstance(part, _WithContainers)}
        # Whoever mended what an issuer could not see updates again, and need not wait for its next attempt.
        patient: pulumi.Input[Sequence[str]] = [] if certbot is None else certbot.container_ids
        healthy = pulumi.Output.all(patient, *(part.container_ids for part in parts.values())).apply(
            lambda groups: _healthy(engine, groups[0], [identity for group in groups[1:] for identity in group]),
        )
        containers = {role: part.containers for role, part in parts.items()}
        mode = settings.certificate.mode
        self.outputs = {
            "url": settings.site.url,
            "ca_certificate": own.ca_certificate_pem if mode is CertificateMode.SELF_SIGNED else None,
            "certificate": {"mode": str(mode), "subject_names": list(settings.certificate_names)},
            # Named only when they are healthy: an update that leaves one sick has failed, and so has the next.
            "containers": pulumi.Output.all(healthy, containers).apply(lambda both: both[1]),
            "host": None,
            **({} if vm is None else _outputs_of(vm)),
        }
        if prometheus is not None:
            self.outputs["status_page"] = prometheus.status_page
        if vm is not None:
            _say_what_is_left(vm)
        if password is not None:
            # Also where none are made each day: `make backup` makes one at any time.
            self.outputs["backup_password"] = password
        if settings.open_webui.oidc is not None:
            # What to enter at the provider.
            self.outputs["oidc"] = {"redirect_uri": redirect_uri(settings.site.url)}
        if admin is not None:
            self.outputs["admin_password"] = pulumi.Output.secret(admin["password"])
        self.register_outputs(self.outputs)

    def _backup_password(self, identity: tls.PrivateKey) -> pulumi.Output[str] | None:
        """Return what backups are encrypted with, whether they are made each day or not."""
        backup = self._settings.backup
        if not backup.encrypted:
            return None
        if backup.password is not None:
            return pulumi.Output.secret(backup.password.get_secret_value())
        return pulumi.Output.secret(identity.private_key_pem.apply(lambda pem: derive(pem, "backup")))

    def _backup(
        self,
        application: OpenWebUI,
        postgres: Postgres | pulumi.Output[str] | None,
        password: pulumi.Output[str] | None,
        host: DockerHost,
        opts: pulumi.ResourceOptions,
    ) -> Backup | None:
        settings, backup = self._settings, self._settings.backup
        kind = backup.kind_on(aws=settings.platform.aws is not None)
        if not backup.enabled or kind is RepositoryKind.AWS_BACKUP:
            return None
        args = BackupArgs(
            image=self._image(images.RESTIC, opts),
            # A name of its own for it: the application's goes, with all that runs it, when its version changes.
            application_image=pinned_image(f"{self._name}-backup-copy", application.image_name, "backup-copy", opts),
            network=host.network,
            data=application.data,
            at=backup.at,
            keep=f"{backup.keep.days}d",
        )
        if postgres is not None:
            args["database"] = DatabaseArgs(
                image=pinned_image(
                    f"{self._name}-backup-database", self._reference(images.POSTGRES), "backup-database", opts
                ),
                url=postgres.url if isinstance(postgres, Postgres) else postgres,
                # Only once that version has proved that it works with the data.
                version=application.image_name.apply(lambda _: settings.open_webui.version),
            )
        if password is not None:
            args["password"] = password
            args["secret_key"] = pulumi.Output.secret(
                pulumi.Output.all(application.secret_key, application.image_name).apply(lambda both: str(both[0]))
            )
        if backup.repository.s3 is not None:
            s3 = backup.repository.s3
            args["repository"] = s3.url(pulumi.get_stack())
            args["s3"] = S3Args(
                access_key_id=s3.access_key_id,
                secret_access_key=pulumi.Output.secret(s3.secret_access_key.get_secret_value()),
                region=s3.region,
            )
        return Backup(f"{self._name}-backup", args, opts)

    def _certbot(
        self,
        proxy: NginxReverseProxy,
        home: pulumi.Output[str],
        host: DockerHost,
        opts: pulumi.ResourceOptions,
        published: Sequence[pulumi.Resource],
    ) -> Certbot | None:
        certificate = self._settings.certificate
        if certificate.mode is not CertificateMode.LETS_ENCRYPT:
            return None
        acme = certificate.lets_encrypt
        args = CertbotArgs(
            image=self._image(images.certbot(route53=acme.challenge is Challenge.DNS_01), opts),
            home=home,
            certificates=proxy.certificates_volume,
            names=self._settings.certificate_names,
            challenge=str(acme.challenge),
            issuers=_issuers(acme),
            proxy_protocol=self._placement.proxy_protocol,
            wait=round(acme.wait.total_seconds()),
            memory=_CERTBOT_MEMORY,
        )
        if self._settings.platform.aws is not None and certificate.by_the_role:
            # The metadata service, which hands out the keys of an instance's role, answers no container elsewhere.
            args["published_port"] = self._placement.https_port
        else:
            args["network"] = host.network
        if acme.route53 is not None:
            args["route53"] = _route53(acme.route53)
        # An issuer finds the site by its names.
        found = pulumi.ResourceOptions(depends_on=[*published])
        return Certbot(f"{self._name}-certbot", args, pulumi.ResourceOptions.merge(opts, found))

    def _provided_certificate(self) -> "ProvidedCertificate | None":
        provided = self._settings.certificate.provided
        # Who removes data needs no valid certificate for it.
        if provided is None or not self._settings.data.keep:
            return None
        # Here, and not above: reading takes 30 ms to load, which who brings none need not wait for.
        from components.certificates.provided import read_provided  # noqa: PLC0415

        reading = read_provided(
            provided, self._settings.certificate_names, warn_before=self._settings.certificate.warn_before
        )
        for warning in reading.warnings:
            pulumi.log.warn(warning)
        if reading.certificate is None:
            raise pulumi.RunError("\n".join(map(str, reading.faults)))
        return reading.certificate

    def _reference(self, image: Image) -> str:
        return image.reference(self._settings.images.source, self._settings.images.registry)

    def _image(self, image: Image, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
        """Return an image's id."""
        return pinned_image(f"{self._name}-{image.role}", self._reference(image), image.role, opts)

    def _ipv6(self, engine: Engine, placement: Placement) -> str | None:
        """Return the IPv6 address to publish, where one is wanted and the engine shows who comes."""
        wanted = placement.listen_ipv6_address
        if wanted is None:
            return None
        try:
            if engine.shows_ipv6_clients():
                return wanted
        except EngineError as error:
            raise pulumi.RunError(str(error)) from None
        if not is_loopback(placement.listen_address):
            pulumi.log.info(
                f"Nothing is published on {wanted}: this Docker engine would show every IPv6 client under"
                " its own gateway's address. Docker 27 and later show the client's; site.listen.ipv6: false says that"
                " none is wanted.",
            )
        return None

    def _host_args(self, *, ipv6: bool) -> DockerHostArgs:
        args = DockerHostArgs(ipv6=ipv6)
        if self._address is not None:
            args["host"] = self._address
        if self._engine.ssh_options:
            args["ssh_options"] = self._engine.ssh_options
        return args

    def _aws_vm(self, placement: Placement) -> "AwsVm | None":
        if self._settings.platform.aws is None:
            return None
        # Here, and not above: its SDK takes a second to load, which who runs nothing there need not wait for.
        try:
            from components.aws.vm import AwsVm  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "pulumi_aws":
                raise
            raise pulumi.RunError(
                "platform.kind: aws-vm needs the package pulumi-aws, which is not installed here; `make up` installs"
                " it, as does .venv/bin/pip install -r requirements-aws.txt",
            ) from None
        from components.aws.wanted import vm_args  # noqa: PLC0415

        return AwsVm(f"{self._name}-vm", vm_args(self._settings, placement), pulumi.ResourceOptions(parent=self))

    def _reached(self, vm: "AwsVm") -> pulumi.Output[str]:
        """Return where the instance's engine is, known once it answers."""
        stack, ssh = pulumi.get_stack(), vm.host.ssh
        access = pulumi.Output.all(ssh.address, ssh.host_key, ssh.client_private_key, vm.host.complete).apply(
            lambda known: SshAccess(stack, f"ssh://{ssh.user}@{known[0]}", known[1], known[2])
        )
        built = self._settings.images.source is ImageSource.BUILT
        images_here = ImagesToTake(wanted_images(self._settings), Engine(None)) if built else None
        return once_answering(self._engine, access, timeout=_FIRST_START, images=images_here)

    def _metrics(
        self, proxy: NginxReverseProxy, nginx: pulumi.Output[str], opts: pulumi.ResourceOptions
    ) -> NginxMetrics | None:
        if not self._settings.proxy.metrics.enabled:
            return None
        args = NginxMetricsArgs(
            image=self._image(images.NGINX_METRICS, opts),
            nginx_image=nginx,
            volume=proxy.metrics_volume,
            port=self._settings.proxy.metrics.port,
        )
        return NginxMetrics(f"{self._name}-nginx-metrics", args, opts)

    def _prometheus(
        self, proxy: NginxReverseProxy, application: OpenWebUI, host: DockerHost, opts: pulumi.ResourceOptions
    ) -> Prometheus | None:
        wanted = self._settings.monitoring.prometheus
        if not wanted.enabled:
            return None
        args = PrometheusArgs(
            image=self._image(images.PROMETHEUS, opts),
            mtail_image=self._image(images.MTAIL, opts),
            network=host.network,
            log_volume=proxy.metrics_volume,
            proxy=f"nginx:{METRICS_PORT}",
            replicas={replica: f"{replica}:{DRAIN_PORT}" for replica in application.replicas},
            stack=pulumi.get_stack(),
            port=wanted.port,
            interval=round(wanted.interval.total_seconds()),
            retention=round(wanted.retention.total_seconds()),
            max_size=wanted.max_size,
            memory=wanted.memory,
            alertmanagers=wanted.alertmanagers,
        )
        return Prometheus(f"{self._name}-prometheus", args, opts)

    def _admin(self, admin: AdminSettings | None) -> AdminArgs | None:
        if admin is None:
            return None
        if admin.password is not None:
            password = pulumi.Output.secret(admin.password.get_secret_value())
        else:
            password = GeneratedSecret(
                f"{self._name}-admin-password",
                GeneratedSecretArgs(purpose="WEBUI_ADMIN_PASSWORD"),
                kept(self),
            ).value
        return AdminArgs(email=admin.email, name=admin.name, password=password)

    def _ollama(self, ollama: OllamaSettings, host: DockerHost, opts: pulumi.ResourceOptions) -> Ollama | str | None:
        if ollama.mode is OllamaMode.NONE:
            return None
        if ollama.mode is OllamaMode.URL:
            return ollama.url
        return Ollama(
            f"{self._name}-ollama",
            OllamaArgs(
                image=self._image(images.OLLAMA, opts),
                network=host.network,
                gpu=ollama.container.gpu,
                memory=ollama.container.memory,
            ),
            opts,
        )

    def _postgres(
        self, postgres: PostgresSettings, host: DockerHost, opts: pulumi.ResourceOptions
    ) -> Postgres | pulumi.Output[str] | None:
        if postgres.mode is BackingMode.CONTAINER:
            args = PostgresArgs(
                image=self._image(images.POSTGRES, opts),
                major=images.POSTGRES_MAJOR,
                network=host.network,
                memory=postgres.memory,
            )
            return Postgres(f"{self._name}-postgres", args, opts)
        return None if postgres.url is None else pulumi.Output.secret(postgres.url.get_secret_value())

    def _redis(
        self, redis: RedisSettings, host: DockerHost, opts: pulumi.ResourceOptions
    ) -> Redis | pulumi.Output[str] | None:
        if redis.mode is BackingMode.CONTAINER:
            args = RedisArgs(image=self._image(images.REDIS, opts), network=host.network, memory=redis.memory)
            return Redis(f"{self._name}-redis", args, opts)
        return None if redis.url is None else pulumi.Output.secret(redis.url.get_secret_value())

    def _readiness(self, application: OpenWebUI, host: DockerHost, opts: pulumi.ResourceOptions) -> Readiness | None:
        if len(application.replicas) == 1:
            return None
        return Readiness(
            f"{self._name}-readiness",
            ReadinessArgs(
                # A name of its own for it: it goes on while the application's version changes.
                image=pinned_image(f"{self._name}-readiness", application.image_name, "readiness", opts),
                network=host.network,
                name=application.upstream,
                replicas=application.replicas,
            ),
            opts,
        )

    def _open_webui(  # noqa: PLR0913, PLR0917 - what it leans on
        self,
        host: DockerHost,
        opts: pulumi.ResourceOptions,
        admin: AdminArgs | None,
        ollama: Ollama | str | None,
        postgres: Postgres | pulumi.Output[str] | None,
        redis: Redis | pulumi.Output[str] | None,
    ) -> OpenWebUI:
        site, proxy = self._settings.site, self._settings.proxy
        application, models = self._settings.open_webui, self._settings.models
        args = OpenWebUIArgs(
            image=self._reference(images.open_webui(application.version)),
            version=application.version,
            upgrade=UpgradeArgs(
                timeout=round(application.upgrade.timeout.total_seconds()),
                snapshot=application.upgrade.snapshot,
                downgrade_from_snapshot=application.upgrade.downgrade is Downgrade.FROM_SNAPSHOT,
            ),
            network=host.network,
            proxy_network=host.subnet,
            url=site.url,
            origins=self._settings.origins,
            embedded=bool(proxy.embedding.allowed_origins),
            websocket=proxy.websocket.enabled,
            max_upload=proxy.limits.max_upload,
            memory=application.memory,
            drain=round(application.drain.total_seconds()),
            replicas=application.replicas,
            environment=application.environment,
            **_brought_volume(self._settings.data),
        )
        if self._address is not None:
            args["engine"] = self._address
            args["ssh_options"] = self._engine.ssh_options
        if postgres is not None:
            args["database_url"] = postgres.url if isinstance(postgres, Postgres) else postgres
            args["vector_length"] = self._settings.data.postgres.vector_length
        if redis is not None:
            args["redis_url"] = redis.url if isinstance(redis, Redis) else redis
        services = {"DATABASE_URL": ("postgres", postgres), "REDIS_URL": ("redis", redis)}
        args["brought"] = {
            variable: f"data.{key}.url"
            for variable, (key, service) in services.items()
            if isinstance(service, pulumi.Output)
        }
        if models.providers is not None:
            args["providers"] = [_provider(provider) for provider in models.providers]
        if ollama is not None:
            args["ollama_url"] = ollama if isinstance(ollama, str) else ollama.url
        if admin is not None:
            args["admin"] = admin
        if self._settings.data.volume is not None:
            args["volume"] = self._settings.data.volume
        _add_sign_in(args, application)
        # They start once what they lean on is healthy, and end before it does.
        below = [service for service in (postgres, redis) if isinstance(service, Postgres | Redis)]
        identities = pulumi.Output.all(*(service.container_ids for service in below)).apply(
            lambda groups: [identity for group in groups for identity in group]
        )
        after = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(depends_on=once_healthy(below, identities, self._engine))
        )
        return OpenWebUI(f"{self._name}-open-webui", args, after)


def _released(settings: StackSettings, opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions | None:
    if settings.data.keep:
        return opts
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(transforms=[release]))


def _engine(settings: StackSettings) -> Engine:
    stack = pulumi.get_stack()
    if settings.platform.aws is not None:
        return Engine(None, ssh_options=ssh_options(stack), host_key_from="the state of this stack", known=False)
    try:
        return engine_of(settings, stack)
    except EngineError as error:
        raise pulumi.RunError(str(error)) from None


def _say_what_is_left(vm: "AwsVm") -> None:
    """Say what somebody has to enter elsewhere as soon as it is known: the update may wait for it."""
    if pulumi.runtime.is_dry_run():
        return
    if vm.wanted_records is not None:
        vm.wanted_records.apply(lambda records: pulumi.log.info(f"{_RECORDS_ARE_WANTED}: {_listed(records)}"))
    if vm.name_servers is not None:
        vm.name_servers.apply(lambda servers: pulumi.log.info(f"{_SERVERS_ARE_WANTED}: {', '.join(servers)}"))


def _listed(records: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{record['name']} {record['type']} {record['value']}" for record in records)


def _outputs_of(vm: "AwsVm") -> dict[str, pulumi.Output[object] | object]:
    outputs: dict[str, pulumi.Output[object] | object] = {"host": vm.host.address}
    if vm.load_balancer is not None:
        outputs["load_balancer"] = vm.load_balancer
    if vm.name_servers is not None:
        outputs["name_servers"] = vm.name_servers
    if vm.wanted_records is not None:
        outputs["dns_records"] = vm.wanted_records
    return outputs


def _asked_over_http(settings: StackSettings) -> Sequence[str]:
    """Return the names for which an issuer asks on port 80."""
    certificate = settings.certificate
    if certificate.mode is CertificateMode.LETS_ENCRYPT and certificate.lets_encrypt.challenge is Challenge.HTTP_01:
        return settings.certificate_names
    return ()


def _issuers(acme: LetsEncryptSettings) -> Sequence[IssuerArgs]:
    first, *others = (_issuer(issuer) for issuer in acme.issuers)
    first["directory"] = acme.directory_in_use
    if acme.staging_directory is not None:
        first["staging_directory"] = acme.staging_directory
    return [first, *others]


def _issuer(issuer: IssuerSettings) -> IssuerArgs:
    args = IssuerArgs(directory=issuer.directory)
    if issuer.directory_ca is not None:
        args["directory_ca"] = issuer.directory_ca
    if issuer.email is not None:
        args["email"] = issuer.email
    if issuer.external_account is not None:
        args["external_account"] = ExternalAccountArgs(
            key_id=issuer.external_account.key_id,
            hmac_key=pulumi.Output.secret(issuer.external_account.hmac_key.get_secret_value()),
        )
    if issuer.profile is not None:
        args["profile"] = issuer.profile
    return args


def _route53(route53: Route53Settings) -> Route53Args:
    args = Route53Args(region=route53.region)
    if route53.access_key_id is not None and route53.secret_access_key is not None:
        args["access_key_id"] = route53.access_key_id
        args["secret_access_key"] = pulumi.Output.secret(route53.secret_access_key.get_secret_value())
    if route53.endpoint is not None:
        args["endpoint"] = route53.endpoint
    return args


class _Generation(TypedDict, total=False):
    generation: int


def _generation(number: int) -> _Generation:
    # An input more would be a change to a stack that has the first one.
    return {} if number == 1 else {"generation": number}


class _ClientAuthorities(TypedDict, total=False):
    client_authorities_pem: str


def _client_authorities(settings: StackSettings) -> _ClientAuthorities:
    asked = settings.proxy.authentication.client_certificates
    return {} if asked is None else {"client_authorities_pem": asked.authorities}


def _add_sign_in(args: OpenWebUIArgs, application: OpenWebUISettings) -> None:
    if application.secret_key is not None:
        args["secret_key"] = pulumi.Output.secret(application.secret_key.get_secret_value())
    if application.secret_key_generation > 1:
        args["secret_key_generation"] = application.secret_key_generation
    if application.former_secret_keys:
        args["former_secret_keys"] = [
            pulumi.Output.secret(key.get_secret_value()) for key in application.former_secret_keys
        ]
    if application.oidc is not None:
        args["oidc"] = _oidc(application.oidc)
    if application.certificate_authorities is not None:
        args["certificate_authorities"] = application.certificate_authorities


def _oidc(oidc: OidcSettings) -> OidcArgs:
    args = OidcArgs(
        issuer=oidc.issuer,
        client_id=oidc.client_id,
        client_secret=pulumi.Output.secret(oidc.client_secret.get_secret_value()),
        name=oidc.name,
        scopes=oidc.scopes,
        allow_signup=oidc.allow_signup,
        merge_by_email=oidc.merge_by_email,
        allowed_domains=oidc.allowed_domains,
        only=oidc.only,
    )
    if oidc.roles is not None:
        args["roles"] = RoleArgs(claim=oidc.roles.claim, allowed=oidc.roles.allowed, admin=oidc.roles.admin)
    if oidc.groups is not None:
        args["groups"] = GroupArgs(claim=oidc.groups.claim, create=oidc.groups.create)
    return args


class _BroughtVolume(TypedDict, total=False):
    volume: str


def _brought_volume(data: DataSettings) -> _BroughtVolume:
    return {} if data.volume is None else {"volume": data.volume}


def _provider(provider: ProviderSettings) -> ProviderArgs:
    if provider.api_key is None:
        return ProviderArgs(url=provider.url)
    return ProviderArgs(url=provider.url, api_key=pulumi.Output.secret(provider.api_key.get_secret_value()))


async def _healthy(engine: Engine, patient: Sequence[str], container_ids: Sequence[str]) -> bool:
    if pulumi.runtime.is_dry_run():
        return True
    try:
        await asyncio.to_thread(engine.restart_unhealthy, patient)
        await asyncio.to_thread(engine.wait_until_healthy, container_ids, pulumi.log.info)
    except EngineError as error:
        raise pulumi.RunError(str(error)) from None
    return True
