"""Where answers come from: OpenAI-compatible providers and Ollama."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import SecretStr

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import Bytes, HttpUrl, Settings, between


class ProviderSettings(Settings):
    """An OpenAI-compatible API."""

    url: HttpUrl
    """Base URL of the API, such as https://api.openai.com/v1."""

    api_key: SecretStr | None = None
    """API key, encrypted: `pulumi config set --path --secret 'models.providers[0].api_key'`. Default: none."""


class OllamaMode(StrEnum):
    """Where Ollama runs."""

    URL = "url"
    CONTAINER = "container"
    NONE = "none"


class OllamaContainerSettings(Settings):
    """An Ollama container of this deployment, with a volume for its models."""

    gpu: bool = False
    """Give the container all GPUs of the host, which needs the NVIDIA container toolkit."""

    memory: Annotated[Bytes, between("512MiB", "1024GiB")] = 8 << 30
    """Memory limit of the Ollama container."""


class OllamaSettings(Settings):
    """Ollama, which runs models on your own hardware."""

    mode: OllamaMode = OllamaMode.URL
    """Selects where Ollama runs. url: an existing one; container: one in this deployment; none: no Ollama."""

    url: HttpUrl = "http://host.docker.internal:11434"
    """URL of the existing Ollama, with mode url. host.docker.internal is the container host itself, where Ollama must
    listen beyond loopback (OLLAMA_HOST=0.0.0.0)."""

    container: OllamaContainerSettings = OllamaContainerSettings()
    """The Ollama container, with mode container."""

    def _faults(self) -> Iterator[Fault]:
        for block, mode in (("url", OllamaMode.URL), ("container", OllamaMode.CONTAINER)):
            if block in self.model_fields_set and self.mode is not mode:
                yield Fault("", f"{block} is set, but mode is {self.mode}; remove {block} or write mode: {mode}")


class ModelSettings(Settings):
    """Models that answer: OpenAI-compatible APIs and Ollama."""

    providers: tuple[ProviderSettings, ...] | None = None
    """OpenAI-compatible APIs. The stack owns a list, even an empty one: at each start it replaces the list saved in the
    admin panel. Default: the admin panel's list."""

    ollama: OllamaSettings = OllamaSettings()
    """Ollama, which runs models on your own hardware."""
