"""Pinecone and Supabase are configured by the specification's variables; nothing of theirs is loaded."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from integrations.pinecone_config import PineconeConfigError, environment_parse, pinecone_config
from integrations.supabase_client import SupabaseConfigError, supabase_config


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ("", ("aws", "us-east-1")),
        ("aws-us-east-1", ("aws", "us-east-1")),
        ("AWS-eu-west-1 ", ("aws", "eu-west-1")),
        ("gcp-us-central1", ("gcp", "us-central1")),
        ("azure-eastus2", ("azure", "eastus2")),
        ("us-east-1", ("aws", "us-east-1")),
        ("us-east1-gcp", ("gcp", "us-east1")),
    ],
)
def test_an_environment_is_a_cloud_and_a_region(environment: str, place: tuple[str, str]) -> None:
    assert environment_parse(environment) == place


@pytest.mark.parametrize("environment", ["your", "aws", "aws-", "-", "gcp"])
def test_other_environments_are_refused(environment: str) -> None:
    with pytest.raises(PineconeConfigError, match="PINECONE_ENVIRONMENT"):
        environment_parse(environment)


def test_services_without_keys_are_not_configured(settings: Settings) -> None:
    settings.PINECONE_API_KEY = settings.SUPABASE_URL = ""
    assert pinecone_config() is None
    assert supabase_config() is None


def test_keys_are_not_shown(settings: Settings) -> None:
    settings.PINECONE_API_KEY, settings.PINECONE_ENVIRONMENT = "pc-private", "aws-us-east-1"
    settings.SUPABASE_URL, settings.SUPABASE_KEY = "https://x.supabase.co/", "sb-private"
    settings.SUPABASE_SERVICE_KEY = "sb-service-private"
    assert "private" not in f"{pinecone_config()} {supabase_config()}"
    config = supabase_config()
    assert config is not None
    assert (config.url, config.service_key) == ("https://x.supabase.co", "sb-service-private")


@pytest.mark.parametrize("url", ["http://x.supabase.co", "http://localhost.evil.example", "x.supabase.co"])
def test_supabase_needs_https_and_a_key(settings: Settings, url: str) -> None:
    settings.SUPABASE_URL, settings.SUPABASE_KEY = url, "k"
    with pytest.raises(SupabaseConfigError, match="https"):
        supabase_config()
    settings.SUPABASE_URL, settings.SUPABASE_KEY, settings.SUPABASE_SERVICE_KEY = "https://x.supabase.co", "", ""
    with pytest.raises(SupabaseConfigError, match="SUPABASE_KEY"):
        supabase_config()
