"""The composition root: creates the components of a deployment from a stack's settings."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pulumi
import pulumi_tls as tls
from pydantic import SecretStr

from open_webui_edge.components.backing_services import Ollama, OllamaArgs, Postgres, PostgresArgs, Redis, RedisArgs
from open_webui_edge.components.backup import Backup, BackupArgs, DatabaseArgs, S3Args
from open_webui_edge.components.certificates.certbot import (
    Certbot,
    CertbotArgs,
    ExternalAccountArgs,
    IssuerArgs,
    Route53Args,
)
from open_webui_edge.components.certificates.self_signed import SelfSignedCertificate, SelfSignedCertificateArgs
from open_webui_edge.components.container_group import ContainerGroup
from open_webui_edge.components.docker.container import volume
from open_webui_edge.components.docker.host import DockerHost, DockerHostArgs
from open_webui_edge.components.docker.image import pinned_image
from open_webui_edge.components.docker.ownership import Ownership
from open_webui_edge.components.docker.waiting import after_healthy, after_recognition, engine_errors, wait_for_engine
from open_webui_edge.components.generated_secret import GeneratedSecret, GeneratedSecretArgs, derive
from open_webui_edge.components.monitoring.component import Prometheus, PrometheusArgs
from open_webui_edge.components.open_webui import AdminArgs, OpenWebUI, OpenWebUIArgs, ProviderArgs, UpgradeArgs
from open_webui_edge.components.open_webui_environment import GroupArgs, OidcArgs, RoleArgs, redirect_uri
from open_webui_edge.components.outbound import OutboundArgs
from open_webui_edge.components.preflight import engine_from_settings, read_certificate
from open_webui_edge.components.protection import deleted_with_instance, protected
from open_webui_edge.components.readiness import Readiness, ReadinessArgs
from open_webui_edge.components.reverse_proxy.component import (
    CertificateSource,
    NginxReverseProxy,
    NginxReverseProxyArgs,
)
from open_webui_edge.components.reverse_proxy.exporter import NginxMetrics, NginxMetricsArgs
from open_webui_edge.components.reverse_proxy.rendering import METRICS_PORT, render_configuration
from open_webui_edge.engine.engine import Engine
from open_webui_edge.engine.ssh import SshAccess, ssh_options
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import PORT
from open_webui_edge.runtime.open_webui.launch import DRAIN_PORT
from open_webui_edge.settings import images
from open_webui_edge.settings.backup import RepositoryKind
from open_webui_edge.settings.certificate import (
    CertificateMode,
    Challenge,
    IssuerSettings,
    LetsEncryptSettings,
    Route53Settings,
)
from open_webui_edge.settings.data import BackingMode
from open_webui_edge.settings.images import Image, ImageSource
from open_webui_edge.settings.models import OllamaMode, ProviderSettings
from open_webui_edge.settings.needed_images import required_images
from open_webui_edge.settings.oidc import OidcSettings
from open_webui_edge.settings.open_webui import Downgrade, OpenWebUISettings
from open_webui_edge.settings.placement import placement_of
from open_webui_edge.settings.stack import StackSettings
from open_webui_edge.settings.values import is_ip_address, is_loopback

if TYPE_CHECKING:
    from open_webui_edge.components.aws.vm import AwsVm
    from open_webui_edge.components.certificates.provided import ProvidedCertificate

_CERTBOT_MEMORY = 256 << 20
_FIRST_START_TIMEOUT = 900
"""Seconds for a new instance to install Docker and answer."""
_RECORDS_TO_CREATE = "Create these records at your DNS provider (at the apex of a zone, an ALIAS)"
_RECORD = "{name} {type} {value}"
_SERVERS_TO_SET = "Set the zone's name servers at your domain's registrar"


class OpenWebUIDeployment(pulumi.ComponentResource):
    """Open WebUI behind Nginx over HTTPS, as one stack's settings describe it."""

    outputs: dict[str, pulumi.Output[object] | object]
    """The stack's outputs, by name."""

    def __init__(self, name: str, settings: StackSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create everything that the settings describe."""
        super().__init__("open-webui-edge:index:OpenWebUIDeployment", name, {}, opts)
        self._settings = settings
        self._name = name
        self._placement = placement = placement_of(settings)
        vm = self._aws_vm()
        self._engine = engine = _engine(settings)
        self._address = settings.platform.docker.host if vm is None else self._address_on(vm)
        identity = tls.PrivateKey(f"{name}-identity", algorithm="ED25519", opts=protected(self))
        owned: list[pulumi.ResourceTransform] = [Ownership(engine, identity.public_key_fingerprint_sha256).claim]
        if vm is not None:
            owned.append(deleted_with_instance(vm.host.instance))

        ipv6 = self._ipv6()
        self._host = host = DockerHost(
            f"{name}-host",
            self._host_args(ipv6=ipv6 is not None),
            pulumi.ResourceOptions(parent=self, transforms=owned),
        )
        self._on_host = on_host = pulumi.ResourceOptions(parent=self, provider=host.provider, transforms=owned)

        # Created in every mode: a CA that clients trust stays valid when the mode is changed back.
        own = SelfSignedCertificate(f"{name}-certificate", _self_signed(settings), pulumi.ResourceOptions(parent=self))
        provided = self._provided_certificate()
        admin = self._admin()
        ollama, postgres, redis = self._ollama(), self._postgres(), self._redis()
        application = self._open_webui(admin, ollama, postgres, redis)
        readiness = self._readiness(application)
        nginx = self._image(images.NGINX)
        configuration = delivery.configuration(
            render_configuration(
                settings,
                stack=pulumi.get_stack(),
                upstreams=[f"{application.upstream}:{PORT}"],
                readiness=None if readiness is None else readiness.address,
                replicas=len(application.replicas),
                ipv6=ipv6 is not None,
                rsa_certificate=provided is not None and provided.rsa,
                acme_challenges=_http_01_names(settings),
            )
        )
        args = NginxReverseProxyArgs(
            image=nginx,
            # The cache is per release: switch it only after the new release passed its trial.
            configuration=pulumi.Output.all(configuration, application.image_name).apply(lambda both: both[0]),
            certificate_pem=own.certificate_pem if provided is None else provided.certificate_pem,
            private_key_pem=own.private_key_pem if provided is None else pulumi.Output.secret(provided.private_key_pem),
            certificate_source=(
                CertificateSource.VOLUME
                if settings.certificate.mode is CertificateMode.LETS_ENCRYPT
                else CertificateSource.ARGS
            ),
            warn_before=_seconds(settings.certificate.warn_before),
            network=host.network,
            listen_addresses=[placement.listen_address, *([] if ipv6 is None else [ipv6])],
            http_port=placement.http_port,
            https_port=placement.https_port,
            http3=placement.http3,
            memory=settings.proxy.memory,
        )
        if settings.proxy.authentication.client_certificates is not None:
            args["client_authorities_pem"] = settings.proxy.authentication.client_certificates.authorities
        proxy = NginxReverseProxy(f"{name}-nginx", args, on_host)
        # In every mode: a change of mode could not delete a protected volume.
        letsencrypt = volume(
            f"{name}-letsencrypt", "letsencrypt", pulumi.ResourceOptions.merge(on_host, protected(self))
        )
        certbot = self._certbot(proxy, letsencrypt.name, [] if vm is None else vm.dns_dependencies)
        metrics = self._metrics(proxy, nginx)
        password = self._backup_password(identity)
        prometheus = self._prometheus(proxy, application)

        by_role = {
            "nginx": proxy,
            "certbot": certbot,
            "open-webui": application,
            "ollama": ollama,
            "postgres": postgres,
            "redis": redis,
            "readiness": readiness,
            "nginx-metrics": metrics,
            "backup": self._backup(application, postgres, password),
            "prometheus": prometheus,
        }
        # Disabled parts are None, external services are addresses.
        parts = {role: part for role, part in by_role.items() if isinstance(part, ContainerGroup)}
        # Restart an unhealthy certbot so that this update retries at once instead of after its back-off.
        retried: pulumi.Input[Sequence[str]] = [] if certbot is None else certbot.container_ids
        healthy = pulumi.Output.all(retried, _ids_of(parts.values())).apply(lambda both: _healthy(engine, *both))
        containers = {role: part.containers for role, part in parts.items()}
        mode = settings.certificate.mode
        self.outputs = {
            "url": settings.site.url,
            "ca_certificate": own.ca_certificate_pem if mode is CertificateMode.SELF_SIGNED else None,
            "certificate": {"mode": str(mode), "subject_names": list(settings.certificate_names)},
            # Set only when all containers are healthy: an update that leaves one unhealthy fails, and so does the next.
            "containers": pulumi.Output.all(healthy, containers).apply(lambda both: both[1]),
            "host": None,
            **({} if vm is None else _outputs_of(vm)),
        }
        if prometheus is not None:
            self.outputs["status_page"] = prometheus.status_page
        if vm is not None:
            _report_dns_to_do(vm)
        if password is not None:
            # Also without daily backups: `make backup` creates one at any time.
            self.outputs["backup_password"] = password
        if settings.open_webui.oidc is not None:
            # To register at the provider.
            self.outputs["oidc"] = {"redirect_uri": redirect_uri(settings.site.url)}
        if admin is not None:
            self.outputs["admin_password"] = pulumi.Output.secret(admin["password"])
        self.register_outputs(self.outputs)

    def _backup_password(self, identity: tls.PrivateKey) -> pulumi.Output[str] | None:
        """Return the password that encrypts backups, daily or not."""
        backup = self._settings.backup
        if not backup.encrypted:
            return None
        if backup.password is not None:
            return _secret(backup.password)
        return pulumi.Output.secret(identity.private_key_pem.apply(lambda pem: derive(pem, "backup")))

    def _backup(
        self,
        application: OpenWebUI,
        postgres: Postgres | pulumi.Output[str] | None,
        password: pulumi.Output[str] | None,
    ) -> Backup | None:
        settings, backup = self._settings, self._settings.backup
        kind = backup.kind_on(aws=settings.platform.aws is not None)
        if not backup.enabled or kind is RepositoryKind.AWS_BACKUP:
            return None
        args = BackupArgs(
            image=self._image(images.RESTIC),
            # A tag of its own: the application's tag is replaced, with all its containers, when the release changes.
            application_image=self._pinned("backup-copy", application.image_name),
            network=self._host.network,
            data=application.data,
            at=backup.at,
            keep=f"{backup.keep.days}d",
        )
        if postgres is not None:
            args["database"] = DatabaseArgs(
                image=self._pinned("backup-database", self._reference(images.POSTGRES)),
                url=postgres.url if isinstance(postgres, Postgres) else postgres,
                # Known once a trial has proved that the release works with the data.
                version=application.image_name.apply(lambda _: settings.open_webui.version),
            )
        if password is not None:
            args["password"] = password
            args["secret_key"] = pulumi.Output.secret(
                pulumi.Output.all(application.secret_key, application.image_name).apply(lambda both: str(both[0]))
            )
        if (s3 := backup.repository.s3) is not None:
            args["repository"] = s3.url(pulumi.get_stack())
            secret_access_key = _secret(s3.secret_access_key)
            args["s3"] = S3Args(access_key_id=s3.access_key_id, secret_access_key=secret_access_key, region=s3.region)
            if outbound := self._outbound(args["repository"].removeprefix("s3:")):
                args["outbound"] = outbound
        return Backup(f"{self._name}-backup", args, self._on_host)

    def _certbot(
        self, proxy: NginxReverseProxy, home: pulumi.Output[str], dns_dependencies: Sequence[pulumi.Resource]
    ) -> Certbot | None:
        certificate = self._settings.certificate
        if certificate.mode is not CertificateMode.LETS_ENCRYPT:
            return None
        acme = certificate.lets_encrypt
        args = CertbotArgs(
            image=self._image(images.certbot(route53=acme.challenge is Challenge.DNS_01)),
            home=home,
            certificates=proxy.certificates_volume,
            names=self._settings.certificate_names,
            challenge=str(acme.challenge),
            issuers=_issuers(acme),
            proxy_protocol=self._placement.proxy_protocol,
            wait=_seconds(acme.wait),
            memory=_CERTBOT_MEMORY,
        )
        if self._settings.platform.aws is not None and certificate.uses_instance_role:
            # Only the host's network reaches the metadata service, which issues the credentials of the instance's role.
            args["published_port"] = self._placement.https_port
        else:
            args["network"] = self._host.network
        if acme.route53 is not None:
            args["route53"] = _route53(acme.route53)
        if outbound := self._outbound(*acme.urls):
            args["outbound"] = outbound
        # The issuer resolves the site's names.
        reachable = pulumi.ResourceOptions(depends_on=[*dns_dependencies])
        return Certbot(f"{self._name}-certbot", args, pulumi.ResourceOptions.merge(self._on_host, reachable))

    def _provided_certificate(self) -> "ProvidedCertificate | None":
        reading = read_certificate(self._settings)
        if reading is None:
            return None
        for warning in reading.warnings:
            pulumi.log.warn(warning)
        if reading.certificate is None:
            raise pulumi.RunError("\n".join(map(str, reading.faults)))
        return reading.certificate

    def _reference(self, image: Image) -> str:
        return image.reference(self._settings.images.source, self._settings.images.registry)

    def _pinned(self, role: str, reference: pulumi.Input[str]) -> pulumi.Output[str]:
        """Return an image's ID."""
        return pinned_image(f"{self._name}-{role}", reference, role, self._on_host)

    def _image(self, image: Image) -> pulumi.Output[str]:
        return self._pinned(image.role, self._reference(image))

    def _ipv6(self) -> str | None:
        """Return the IPv6 address to publish, if one is set and containers see the addresses of IPv6 clients."""
        address = self._placement.listen_ipv6_address
        if address is None:
            return None
        with engine_errors():
            if self._engine.shows_ipv6_clients():
                return address
        if not is_loopback(self._placement.listen_address):
            pulumi.log.info(
                f"Nothing is published on {address}: behind this Docker engine every IPv6 client has the gateway's"
                " address. Docker 27 and later preserve the client's; site.listen.ipv6: false hides this message.",
            )
        return None

    def _host_args(self, *, ipv6: bool) -> DockerHostArgs:
        args = DockerHostArgs(ipv6=ipv6)
        if self._settings.platform.aws is not None and self._address is not None:
            # The engine is replaced with its instance; the data is on a volume of its own.
            args["host"] = self._address
        else:
            # The default too is in the state: a refresh asks the engine that the state names.
            opts = pulumi.ResourceOptions(parent=self)
            args["host"] = after_recognition(f"{self._name}-host", self._engine, opts)
        if self._engine.ssh_options:
            args["ssh_options"] = self._engine.ssh_options
        return args

    def _aws_vm(self) -> "AwsVm | None":
        if self._settings.platform.aws is None:
            return None
        # Imported here: the SDK takes a second to load, which stacks without AWS need not wait for.
        try:
            from open_webui_edge.components.aws.vm import AwsVm  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "pulumi_aws":
                raise
            raise pulumi.RunError(
                "platform.kind: aws-vm needs the package pulumi-aws, which is not installed here; `make up` installs"
                " it, as does .venv/bin/pip install -r requirements-aws.txt",
            ) from None
        from open_webui_edge.components.aws.vm_args import vm_args  # noqa: PLC0415

        args = vm_args(self._settings, self._placement)
        return AwsVm(f"{self._name}-vm", args, pulumi.ResourceOptions(parent=self))

    def _address_on(self, vm: "AwsVm") -> pulumi.Output[str]:
        """Return the address of the instance's engine, known once it answers."""
        stack, ssh = pulumi.get_stack(), vm.host.ssh
        access = pulumi.Output.all(ssh.address, ssh.host_key, ssh.client_private_key, vm.host.complete).apply(
            lambda values: SshAccess(stack, f"ssh://{ssh.user}@{values[0]}", values[1], values[2])
        )
        built = required_images(self._settings) if self._settings.images.source is ImageSource.BUILT else []
        source = Engine(None)
        return wait_for_engine(self._engine, access, timeout=_FIRST_START_TIMEOUT, images=built, source=source)

    def _metrics(self, proxy: NginxReverseProxy, nginx: pulumi.Output[str]) -> NginxMetrics | None:
        if not self._settings.proxy.metrics.enabled:
            return None
        args = NginxMetricsArgs(
            image=self._image(images.NGINX_METRICS),
            nginx_image=nginx,
            volume=proxy.metrics_volume,
            port=self._settings.proxy.metrics.port,
        )
        return NginxMetrics(f"{self._name}-nginx-metrics", args, self._on_host)

    def _prometheus(self, proxy: NginxReverseProxy, application: OpenWebUI) -> Prometheus | None:
        settings = self._settings.monitoring.prometheus
        if not settings.enabled:
            return None
        args = PrometheusArgs(
            image=self._image(images.PROMETHEUS),
            # A tag of its own: the counter keeps running while the application's release changes.
            counter_image=self._pinned("request-counter", application.image_name),
            network=self._host.network,
            log_volume=proxy.metrics_volume,
            proxy=f"nginx:{METRICS_PORT}",
            replicas={replica: f"{replica}:{DRAIN_PORT}" for replica in application.replicas},
            stack=pulumi.get_stack(),
            port=settings.port,
            interval=_seconds(settings.interval),
            retention=_seconds(settings.retention),
            max_size=settings.max_size,
            memory=settings.memory,
            alertmanagers=settings.alertmanagers,
        )
        return Prometheus(f"{self._name}-prometheus", args, self._on_host)

    def _admin(self) -> AdminArgs | None:
        admin = self._settings.open_webui.admin
        if admin is None:
            return None
        # Also with a password in the settings: an update could not delete the protected key.
        generated = GeneratedSecret(
            f"{self._name}-admin-password", GeneratedSecretArgs(purpose="WEBUI_ADMIN_PASSWORD"), protected(self)
        )
        password = generated.value if admin.password is None else _secret(admin.password)
        return AdminArgs(email=admin.email, name=admin.name, password=password)

    def _ollama(self) -> Ollama | str | None:
        ollama = self._settings.models.ollama
        if ollama.mode is OllamaMode.NONE:
            return None
        if ollama.mode is OllamaMode.URL:
            return ollama.url
        args = OllamaArgs(
            image=self._image(images.OLLAMA),
            network=self._host.network,
            gpu=ollama.container.gpu,
            memory=ollama.container.memory,
        )
        if outbound := self._outbound():
            args["outbound"] = outbound
        return Ollama(f"{self._name}-ollama", args, self._on_host)

    def _postgres(self) -> Postgres | pulumi.Output[str] | None:
        postgres = self._settings.data.postgres
        if postgres.mode is BackingMode.CONTAINER:
            args = PostgresArgs(
                image=self._image(images.POSTGRES),
                major=images.POSTGRES_MAJOR,
                network=self._host.network,
                memory=postgres.memory,
            )
            return Postgres(f"{self._name}-postgres", args, self._on_host)
        return None if postgres.url is None else _secret(postgres.url)

    def _outbound(self, *urls: str) -> OutboundArgs:
        """Return how a container reaches `urls` and the internet; empty if its network leads there."""
        outbound = self._settings.outbound
        args = OutboundArgs()
        if environment := outbound.environment(urls):
            args["environment"] = pulumi.Output.secret(environment)
        if outbound.certificate_authorities is not None:
            args["certificate_authorities"] = outbound.certificate_authorities
        return args

    def _redis(self) -> Redis | pulumi.Output[str] | None:
        redis = self._settings.data.redis
        if redis.mode is BackingMode.CONTAINER:
            args = RedisArgs(image=self._image(images.REDIS), network=self._host.network, memory=redis.memory)
            return Redis(f"{self._name}-redis", args, self._on_host)
        return None if redis.url is None else _secret(redis.url)

    def _readiness(self, application: OpenWebUI) -> Readiness | None:
        if len(application.replicas) == 1:
            return None
        args = ReadinessArgs(
            # A tag of its own: it keeps running while the application's release changes.
            image=self._pinned("readiness", application.image_name),
            network=self._host.network,
            name=application.upstream,
            replicas=application.replicas,
        )
        return Readiness(f"{self._name}-readiness", args, self._on_host)

    def _open_webui(
        self,
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
                timeout=_seconds(application.upgrade.timeout),
                snapshot=application.upgrade.snapshot,
                downgrade_from_snapshot=application.upgrade.downgrade is Downgrade.FROM_SNAPSHOT,
            ),
            network=self._host.network,
            proxy_network=self._host.subnet,
            url=site.url,
            origins=self._settings.origins,
            embedded=bool(proxy.embedding.allowed_origins),
            websocket=proxy.websocket.enabled,
            max_upload=proxy.limits.max_upload,
            memory=application.memory,
            drain=_seconds(application.drain),
            replicas=application.replicas,
            environment={
                **self._settings.outbound.environment(self._settings.application_urls),
                **application.environment,
            },
            secret_key_generation=application.secret_key_generation,
            former_secret_keys=list(map(_secret, application.former_secret_keys)),
            external_services={
                variable: f"data.{key}.url"
                for variable, key, service in (("DATABASE_URL", "postgres", postgres), ("REDIS_URL", "redis", redis))
                if isinstance(service, pulumi.Output)
            },
        )
        if self._address is not None:
            args["engine"] = self._address
            args["ssh_options"] = self._engine.ssh_options
        if postgres is not None:
            args["database_url"] = postgres.url if isinstance(postgres, Postgres) else postgres
            args["vector_length"] = self._settings.data.postgres.vector_length
        if redis is not None:
            args["redis_url"] = redis.url if isinstance(redis, Redis) else redis
        if models.providers is not None:
            args["providers"] = list(map(_provider, models.providers))
        if ollama is not None:
            args["ollama_url"] = ollama if isinstance(ollama, str) else ollama.url
        if admin is not None:
            args["admin"] = admin
        if self._settings.data.volume is not None:
            args["volume"] = self._settings.data.volume
        _add_sign_in(args, application)
        authorities = [application.certificate_authorities, self._settings.outbound.certificate_authorities]
        if known := [pem for pem in authorities if pem is not None]:
            args["certificate_authorities"] = "".join(known)
        # Replicas start after their database and Redis are healthy, and stop before them.
        own_services = [service for service in (postgres, redis) if isinstance(service, Postgres | Redis)]
        after = pulumi.ResourceOptions(depends_on=after_healthy(own_services, _ids_of(own_services), self._engine))
        return OpenWebUI(f"{self._name}-open-webui", args, pulumi.ResourceOptions.merge(self._on_host, after))


def _engine(settings: StackSettings) -> Engine:
    stack = pulumi.get_stack()
    if settings.platform.aws is not None:
        return Engine(None, ssh_options=ssh_options(stack), host_key_from="the state of this stack", known=False)
    with engine_errors():
        return engine_from_settings(settings, stack)


def _report_dns_to_do(vm: "AwsVm") -> None:
    """Report the DNS records to create elsewhere as soon as they are known: the update may wait for them."""
    if pulumi.runtime.is_dry_run():
        return
    if vm.records_to_create is not None:
        vm.records_to_create.apply(
            lambda records: pulumi.log.info(f"{_RECORDS_TO_CREATE}: {'; '.join(map(_RECORD.format_map, records))}")
        )
    if vm.name_servers is not None:
        vm.name_servers.apply(lambda servers: pulumi.log.info(f"{_SERVERS_TO_SET}: {', '.join(servers)}"))


def _outputs_of(vm: "AwsVm") -> dict[str, pulumi.Output[object] | object]:
    optional = {"load_balancer": vm.load_balancer, "name_servers": vm.name_servers, "dns_records": vm.records_to_create}
    return {"host": vm.host.address, **{name: value for name, value in optional.items() if value is not None}}


def _self_signed(settings: StackSettings) -> SelfSignedCertificateArgs:
    names, generation = settings.certificate_names, settings.certificate.self_signed.generation
    args = SelfSignedCertificateArgs(
        common_name=settings.site.domain,
        dns_names=[name for name in names if not is_ip_address(name)],
        ip_addresses=[name for name in names if is_ip_address(name)],
    )
    # Omit generation 1 so existing stacks see no diff.
    if generation > 1:
        args["generation"] = generation
    return args


def _http_01_names(settings: StackSettings) -> Sequence[str]:
    """Return the names that an issuer validates over port 80 (HTTP-01)."""
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
        account = issuer.external_account
        args["external_account"] = ExternalAccountArgs(key_id=account.key_id, hmac_key=_secret(account.hmac_key))
    if issuer.profile is not None:
        args["profile"] = issuer.profile
    return args


def _route53(route53: Route53Settings) -> Route53Args:
    args = Route53Args(region=route53.region)
    if route53.access_key_id is not None and route53.secret_access_key is not None:
        args["access_key_id"] = route53.access_key_id
        args["secret_access_key"] = _secret(route53.secret_access_key)
    if route53.endpoint is not None:
        args["endpoint"] = route53.endpoint
    return args


def _add_sign_in(args: OpenWebUIArgs, application: OpenWebUISettings) -> None:
    if application.secret_key is not None:
        args["secret_key"] = _secret(application.secret_key)
    if application.oidc is not None:
        args["oidc"] = _oidc(application.oidc)


def _oidc(oidc: OidcSettings) -> OidcArgs:
    args = OidcArgs(
        issuer=oidc.issuer,
        client_id=oidc.client_id,
        client_secret=_secret(oidc.client_secret),
        name=oidc.name,
        scopes=oidc.scopes,
        allow_signup=oidc.allow_signup,
        merge_by_email=oidc.merge_by_email,
        allowed_domains=oidc.allowed_domains,
        disable_password_login=oidc.only,
    )
    if oidc.roles is not None:
        args["roles"] = RoleArgs(claim=oidc.roles.claim, allowed=oidc.roles.allowed, admin=oidc.roles.admin)
    if oidc.groups is not None:
        args["groups"] = GroupArgs(claim=oidc.groups.claim, create=oidc.groups.create)
    return args


def _provider(provider: ProviderSettings) -> ProviderArgs:
    if provider.api_key is None:
        return ProviderArgs(url=provider.url)
    return ProviderArgs(url=provider.url, api_key=_secret(provider.api_key))


def _secret(value: SecretStr) -> pulumi.Output[str]:
    return pulumi.Output.secret(value.get_secret_value())


def _seconds(duration: timedelta) -> int:
    return round(duration.total_seconds())


def _ids_of(parts: Iterable[ContainerGroup]) -> pulumi.Output[Sequence[str]]:
    """Return the IDs of all containers of the parts."""
    return pulumi.Output.all(*(part.container_ids for part in parts)).apply(
        lambda groups: [identity for group in groups for identity in group]
    )


async def _healthy(engine: Engine, retried: Sequence[str], container_ids: Sequence[str]) -> bool:
    if not pulumi.runtime.is_dry_run():
        with engine_errors():
            await asyncio.to_thread(engine.restart_unhealthy, retried)
            await asyncio.to_thread(engine.wait_until_healthy, container_ids, pulumi.log.info)
    return True
