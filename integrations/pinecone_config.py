"""How Pinecone is reached: configuration alone, without its library."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

CLOUDS = ("aws", "gcp", "azure")
DEFAULT_CLOUD, DEFAULT_REGION = "aws", "us-east-1"


class PineconeConfigError(Exception):
    """The settings name no cloud and region that Pinecone could have."""


@dataclass(frozen=True)
class PineconeConfig:
    """A Pinecone index and where it is made if it isn't there."""

    api_key: str
    index_name: str
    cloud: str
    region: str

    def __repr__(self) -> str:
        return f"PineconeConfig(index_name={self.index_name!r}, cloud={self.cloud!r}, region={self.region!r})"


def environment_parse(environment: str) -> tuple[str, str]:
    """Cloud and region of ``PINECONE_ENVIRONMENT``: ``aws-us-east-1``, ``us-east-1`` (aws), ``us-east1-gcp`` (old).

    Empty means the default. Raises :class:`PineconeConfigError`.
    """
    text = environment.strip().lower()
    if not text:
        return DEFAULT_CLOUD, DEFAULT_REGION
    head, _, rest = text.partition("-")
    if head in CLOUDS and rest:
        return head, rest
    front, _, tail = text.rpartition("-")
    if tail in CLOUDS and front:
        return tail, front
    if head and rest and head not in CLOUDS:
        return DEFAULT_CLOUD, text
    raise PineconeConfigError(
        f"PINECONE_ENVIRONMENT '{environment}' is no cloud and region; write it like aws-us-east-1 or gcp-us-central1"
    )


def pinecone_config() -> PineconeConfig | None:
    """What the settings say, or None where no key is set."""
    if not settings.PINECONE_API_KEY:
        return None
    cloud, region = environment_parse(settings.PINECONE_ENVIRONMENT)
    return PineconeConfig(
        api_key=settings.PINECONE_API_KEY, index_name=settings.PINECONE_INDEX_NAME, cloud=cloud, region=region
    )
