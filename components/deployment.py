"""The whole: the only place where the parts meet, and the only one that knows settings and components."""

import asyncio
from collections.abc import Sequence

import pulumi
import pulumi_tls as tls

from components import images
from components.backing_services import Ollama, OllamaArgs
from components.certificates.self_signed import SelfSignedCertificate, SelfSignedCertificateArgs
from components.docker.engine import Engine, EngineError
from components.docker.host import DockerHost, DockerHostArgs
from components.docker.image import pinned_image
from components.docker.ownership import Ownership
from components.generated_secret import GeneratedSecret, GeneratedSecretArgs
from components.images import Image
from components.keeping import kept, release
from components.open_webui import PORT, AdminArgs, OpenWebUI, OpenWebUIArgs, ProviderArgs
from components.reverse_proxy.component import NginxReverseProxy, NginxReverseProxyArgs
from components.reverse_proxy.rendering import render_configuration
from stacks.models import OllamaMode, OllamaSettings, ProviderSettings
from stacks.open_webui import AdminSettings
from stacks.settings import StackSettings
from stacks.values import is_ip_address


class OpenWebUIDeployment(pulumi.ComponentResource):
    """Open WebUI behind Nginx over HTTPS, as one stack's settings want it."""

    outputs: dict[str, pulumi.Output[object] | object]
    """What the stack exports, by name."""

    def __init__(self, name: str, settings: StackSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Build everything that the settings ask for."""
        super().__init__("open-webui-edge:index:OpenWebUIDeployment", name, {}, _released(settings, opts))
        self._settings = settings
        self._name = name
        engine = Engine(settings.platform.docker.host)
        identity = tls.PrivateKey(f"{name}-identity", algorithm="ED25519", opts=kept(self))
        owned: list[pulumi.ResourceTransform] = [Ownership(engine, identity.public_key_fingerprint_sha256).claim]

        host = DockerHost(f"{name}-host", _host_args(settings), pulumi.ResourceOptions(parent=self, transforms=owned))
        on_host = pulumi.ResourceOptions(parent=self, provider=host.provider, transforms=owned)

        certificate = SelfSignedCertificate(
            f"{name}-certificate",
            SelfSignedCertificateArgs(
                common_name=settings.site.domain,
                dns_names=[host for host in settings.site.hosts if not is_ip_address(host)],
                ip_addresses=[host for host in settings.site.hosts if is_ip_address(host)],
            ),
            pulumi.ResourceOptions(parent=self),
        )
        admin = self._admin(settings.open_webui.admin)
        ollama = self._ollama(settings.models.ollama, host, on_host)
        application = self._open_webui(host, on_host, admin, ollama)
        proxy = NginxReverseProxy(
            f"{name}-nginx",
            NginxReverseProxyArgs(
                image=self._image(images.NGINX, on_host),
                configuration=render_configuration(
                    settings,
                    stack=pulumi.get_stack(),
                    upstreams=[f"{application.upstream}:{PORT}"],
                ),
                certificate_pem=certificate.certificate_pem,
                private_key_pem=certificate.private_key_pem,
                network=host.network,
                listen_address=settings.site.listen.address,
                http_port=settings.site.listen.http_port,
                https_port=settings.site.listen.https_port,
                memory=settings.proxy.memory,
            ),
            on_host,
        )

        by_role: dict[str, NginxReverseProxy | OpenWebUI | Ollama] = {"nginx": proxy, "open-webui": application}
        if isinstance(ollama, Ollama):
            by_role["ollama"] = ollama
        healthy = pulumi.Output.all(*(part.container_ids for part in by_role.values())).apply(
            lambda groups: _healthy(engine, [identity for group in groups for identity in group]),
        )
        containers = {role: part.containers for role, part in by_role.items()}
        self.outputs = {
            "url": settings.site.url,
            "ca_certificate": certificate.ca_certificate_pem,
            "certificate": {"mode": str(settings.certificate.mode), "subject_names": list(settings.site.hosts)},
            # Named only when they are healthy: an update that leaves one sick has failed, and so has the next.
            "containers": pulumi.Output.all(healthy, containers).apply(lambda both: both[1]),
            "host": None,
        }
        if admin is not None:
            self.outputs["admin_password"] = pulumi.Output.secret(admin["password"])
        self.register_outputs(self.outputs)

    def _image(self, image: Image, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
        reference = image.reference(self._settings.images.source, self._settings.images.registry)
        return pinned_image(f"{self._name}-{image.role}", reference, image.role, opts)

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

    def _open_webui(
        self,
        host: DockerHost,
        opts: pulumi.ResourceOptions,
        admin: AdminArgs | None,
        ollama: Ollama | str | None,
    ) -> OpenWebUI:
        site, application, models = self._settings.site, self._settings.open_webui, self._settings.models
        args = OpenWebUIArgs(
            image=self._image(images.open_webui(application.version), opts),
            network=host.network,
            proxy_network=host.subnet,
            url=site.url,
            origins=[site.origin(name) for name in site.hosts],
            max_upload=self._settings.proxy.limits.max_upload,
            memory=application.memory,
            environment=application.environment,
        )
        if models.providers is not None:
            args["providers"] = [_provider(provider) for provider in models.providers]
        if ollama is not None:
            args["ollama_url"] = ollama if isinstance(ollama, str) else ollama.url
        if admin is not None:
            args["admin"] = admin
        return OpenWebUI(f"{self._name}-open-webui", args, opts)


def _released(settings: StackSettings, opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions | None:
    if settings.data.keep:
        return opts
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(transforms=[release]))


def _host_args(settings: StackSettings) -> DockerHostArgs:
    host = settings.platform.docker.host
    return DockerHostArgs() if host is None else DockerHostArgs(host=host)


def _provider(provider: ProviderSettings) -> ProviderArgs:
    if provider.api_key is None:
        return ProviderArgs(url=provider.url)
    return ProviderArgs(url=provider.url, api_key=pulumi.Output.secret(provider.api_key.get_secret_value()))


async def _healthy(engine: Engine, container_ids: Sequence[str]) -> bool:
    if pulumi.runtime.is_dry_run():
        return True
    try:
        await asyncio.to_thread(engine.wait_until_healthy, container_ids, pulumi.log.info)
    except EngineError as error:
        raise pulumi.RunError(str(error)) from None
    return True
