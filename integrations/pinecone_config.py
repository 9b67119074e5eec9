"""How Pinecone is reached: its configuration, and a client of it. The library is loaded when a client is made."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from pinecone import Pinecone

CLOUDS = ("aws", "gcp", "azure")
DEFAULT_CLOUD, DEFAULT_REGION = "aws", "us-east-1"
#: Room for a dimension behind it is left in what Pinecone takes (45).
_INDEX_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,37}[a-z0-9])?")
#: Seconds for one request; it is tried twice more.
TIMEOUT_SECONDS = 10.0


class PineconeConfigError(Exception):
    """The settings name no cloud and region that Pinecone could have."""


@dataclass(frozen=True)
class PineconeConfig:
    """A Pinecone index and where it is made if it isn't there."""

    api_key: str
    index_name: str
    cloud: str
    region: str
    #: Of the control plane, where that isn't Pinecone's own: a proxy, or Pinecone's local emulator.
    controller_host: str = ""

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
    if not _INDEX_NAME.fullmatch(settings.PINECONE_INDEX_NAME):
        raise PineconeConfigError(
            f"PINECONE_INDEX_NAME '{settings.PINECONE_INDEX_NAME}' is no name of an index: lower-case letters, digits "
            "and hyphens, 39 at most"
        )
    return PineconeConfig(
        api_key=settings.PINECONE_API_KEY,
        index_name=settings.PINECONE_INDEX_NAME,
        cloud=cloud,
        region=region,
        controller_host=settings.PINECONE_CONTROLLER_HOST,
    )


def pinecone_open(config: PineconeConfig) -> Pinecone:
    """A client of Pinecone's control plane; nothing is sent yet."""
    from pinecone import Pinecone, RetryConfig

    # It tells of each request.
    logging.getLogger("pinecone").setLevel(logging.WARNING)
    return Pinecone(
        api_key=config.api_key,
        # The library would look into the environment itself, and it is the settings that read it.
        host=config.controller_host or "https://api.pinecone.io",
        timeout=TIMEOUT_SECONDS,
        retry_config=RetryConfig(max_retries=2, max_wait=2.0),
        source_tag="archon",
    )
