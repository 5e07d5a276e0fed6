"""Where answers come from: OpenAI-compatible providers and Ollama."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import SecretStr, model_validator

from stacks.values import Bytes, HttpUrl, Settings, between_bytes


class ProviderSettings(Settings):
    """An OpenAI-compatible API."""

    url: HttpUrl
    """Base URL, such as https://api.openai.com/v1."""

    api_key: SecretStr | None = None
    """Its key, encrypted: `pulumi config set --path --secret 'models.providers[0].api_key'`."""


class OllamaMode(StrEnum):
    """Where Ollama runs."""

    URL = "url"
    CONTAINER = "container"
    NONE = "none"


class OllamaContainerSettings(Settings):
    """An Ollama of this deployment's own, with a volume for its models."""

    gpu: bool = False
    """Give it all GPUs of the host (the NVIDIA container toolkit must be installed there)."""

    memory: Annotated[Bytes, between_bytes("512MiB", "1024GiB")] = 8 << 30
    """Memory limit of its container."""


class OllamaSettings(Settings):
    """Models that run on your own hardware."""

    mode: OllamaMode = OllamaMode.URL
    """url: one that runs already; container: one of this deployment's own; none: no Ollama."""

    url: HttpUrl = "http://host.docker.internal:11434"
    """With mode url: where it listens. host.docker.internal is the container host itself, where Ollama must listen
    beyond loopback (OLLAMA_HOST=0.0.0.0)."""

    container: OllamaContainerSettings = OllamaContainerSettings()
    """With mode container: its size."""

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        for block, mode in (("url", OllamaMode.URL), ("container", OllamaMode.CONTAINER)):
            if block in self.model_fields_set and self.mode is not mode:
                raise ValueError(f"{block} is set, but mode is {self.mode}; drop {block} or write mode: {mode}")
        return self


class ModelSettings(Settings):
    """Where answers come from."""

    providers: tuple[ProviderSettings, ...] | None = None
    """OpenAI-compatible APIs. A list, even an empty one, belongs to the stack: what it says replaces what was saved
    in the admin panel at each start. Left out, the admin panel keeps them."""

    ollama: OllamaSettings = OllamaSettings()
    """Models that run on your own hardware."""
