"""A key goes to the host that it belongs to, and to no other, however the address is written."""

from __future__ import annotations

import string
import urllib.parse
from collections.abc import Iterator

import httpx2
import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_django import Settings

from integrations.llm_providers.credentials import NO_KEY, OPENAI_URL, StoredKey, endpoint_parse, model_resolve
from integrations.llm_providers.errors import BaseUrlNotAllowed, ModelNameInvalid, ModelNotConfigured, ProviderError
from integrations.llm_providers.types import Secret
from integrations.llm_providers.vendors import VENDORS, Vendor

OWN_KEY = "sk-the-operators-own"


@pytest.fixture(autouse=True)
def operator(settings: Settings) -> Iterator[None]:
    """An operator with a key of OpenAI, a local server, and a proxy that has a key of its own."""
    settings.ARCHON_MODEL = ""
    settings.OPENAI_API_KEY = OWN_KEY
    settings.OPENAI_BASE_URL = ""
    for vendor in VENDORS:
        for name in filter(None, (vendor.key_setting, vendor.base_url_setting)):
            setattr(settings, name, OWN_KEY if name == "OPENAI_API_KEY" else "")
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*", "https://llm.example.com/team-a", "http://[::1]:8000/v1"]
    settings.ARCHON_MODEL_KEYS = {"https://llm.example.com/team-a": "sk-team-a"}
    yield


def test_the_own_key_goes_to_openai() -> None:
    spec = model_resolve("openai:gpt-5-mini")
    assert (spec.base_url, spec.api_key.reveal(), spec.key_source) == (OPENAI_URL, OWN_KEY, "OPENAI_API_KEY")


@pytest.mark.parametrize("written", ["https://api.openai.com/v1", "https://API.openai.com:443/v1/", OPENAI_URL + "/"])
def test_openai_may_be_named_outright(written: str) -> None:
    assert model_resolve("openai:gpt-5-mini", written).api_key.reveal() == OWN_KEY


def test_the_own_key_follows_the_operators_base_url_and_leaves_openai(settings: Settings) -> None:
    settings.OPENAI_BASE_URL = "https://gateway.example.com/openai/v1"
    assert model_resolve("openai:gpt-5-mini").base_url == "https://gateway.example.com/openai/v1"
    assert model_resolve("openai:gpt-5-mini").api_key.reveal() == OWN_KEY
    with pytest.raises(BaseUrlNotAllowed):
        model_resolve("openai:gpt-5-mini", OPENAI_URL)


def test_an_operators_base_url_needs_no_key(settings: Settings) -> None:
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = "http://ollama:11434/v1", ""
    assert model_resolve("openai:qwen2.5-coder:7b").api_key.reveal() == NO_KEY


def test_a_listed_address_gets_the_key_that_is_listed_for_it_or_none() -> None:
    assert model_resolve("openai:m", "https://llm.example.com/team-a/v1").api_key.reveal() == "sk-team-a"
    assert model_resolve("openai:m", "http://127.0.0.1:4321/v1").api_key.reveal() == NO_KEY
    assert model_resolve("openai:m", "http://[0:0:0:0:0:0:0:1]:8000/v1/").base_url == "http://[::1]:8000/v1"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80@evil.example/v1",
        "http://127.0.0.1:80%40evil.example/",
        "http://user:pass@127.0.0.1:80/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://127.0.0.1evil.example",
        "http://127.0.0.1:80.evil.example/",
        "http://127.0.0.1:80#@evil.example/",
        "http://127.0.0.1:80?@evil.example/",
        "http://127.0.0.1:80\\@evil.example/",
        "http:\\\\127.0.0.1:80",
        "http://evil.example\\.127.0.0.1/",
        "http://127.0.0.1:*/v1",
        "http://127.0.0.1:0/v1",
        "http://127.0.0.1:65536/v1",
        "http://127.0.0.1:\n80/v1",
        "\thttp://127.0.0.1:80 @evil.example/v1",
        "http://127.0.0.1./v1",
        "http://0x7f.1/v1",
        "http://2130706433/v1",
        "https://127.0.0.1/v1",
        "ftp://127.0.0.1/",
        "//127.0.0.1/v1",
        "127.0.0.1:8000",
        "http:///v1",
        "http://",
        "http://[::1/v1",
        "http://[::1]evil.example:8000/v1",
        "http://[::1]:8000/v10",
        "http://[::1]:8001/v1",
        "https://llm.example.com/team-b",
        "https://llm.example.com/team-a/../team-b",
        "https://llm.example.com/team-a/%2e%2e/team-b",
        "https://llm.example.com/team-a/./v1",
        "https://llm.example.com/team-a//v1",
        "https://llm.example.com/team-ab",
        "https://llm.example.com:8443/team-a",
        "https://llm.example.com@evil.example/team-a",
        "http://llm.example.com/team-a",
        "https://llm。example.com/team-a",
        "https://ｌlm.example.com/team-a",
    ],
)
def test_addresses_that_only_look_allowed_are_refused(url: str) -> None:
    with pytest.raises(BaseUrlNotAllowed):
        model_resolve("openai:m", url)


_HOSTILE = st.text(alphabet=string.ascii_letters + string.digits + "@:/\\?#%.[]*-_ \t\n\x00。", max_size=40)


@hypothesis.settings(deadline=None)
@given(
    url=st.one_of(
        _HOSTILE.map("http://127.0.0.1".__add__),
        _HOSTILE.map("http://127.0.0.1:80".__add__),
        _HOSTILE.map("https://llm.example.com/team-a".__add__),
        _HOSTILE.map(lambda tail: "http://" + tail + "127.0.0.1:80/v1"),
        st.text(max_size=60),
    )
)
@example(url="http://127.0.0.1:80@evil.example")
def test_every_parser_agrees_on_where_an_accepted_address_leads(url: str) -> None:
    """What is accepted leads, as the client library and the standard library read it, to a host on the list."""
    # A blank one is none at all, and leads to the provider's own host.
    hypothesis.assume(url.strip())
    try:
        spec = model_resolve("openai:m", url)
    except ProviderError:
        return
    for read in (httpx2.URL(spec.base_url), urllib.parse.urlsplit(spec.base_url)):
        host = read.host if isinstance(read, httpx2.URL) else read.hostname
        assert host in ("127.0.0.1", "llm.example.com")
        if host == "llm.example.com":
            assert read.scheme == "https"
            assert (read.path + "/").startswith("/team-a/")
            assert ".." not in read.path
    assert OWN_KEY not in spec.api_key.reveal()
    assert (spec.api_key.reveal() == "sk-team-a") == ("llm.example.com" in spec.base_url)


@hypothesis.settings(deadline=None)
@given(text=st.text(alphabet="abc./:*@-[]0123456789 htps", max_size=40))
def test_a_parsed_address_is_its_own_canonical_form(text: str) -> None:
    endpoint = endpoint_parse("http://" + text)
    assert endpoint is None or endpoint_parse(endpoint.url) == endpoint


def test_no_key_at_all_is_said_at_once_with_what_to_set(settings: Settings) -> None:
    settings.OPENAI_API_KEY = ""
    for name in ("", "openai:gpt-5-mini"):
        with pytest.raises(ModelNotConfigured) as caught:
            model_resolve(name)
        for word in ("OPENAI_API_KEY", "ARCHON_MODEL", "--model", "--base-url", "./archon demo"):
            assert word in caught.value.next_step


def test_archon_model_is_what_a_session_gets_that_names_none(settings: Settings) -> None:
    settings.ARCHON_MODEL = "openai:gpt-4o-mini"
    assert model_resolve().model == "gpt-4o-mini"


def test_a_base_url_without_a_model_is_refused() -> None:
    with pytest.raises(ModelNotConfigured, match=r"no model is named for http://127\.0\.0\.1:1"):
        model_resolve("", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "name", ["gpt-5-mini", "openai:", ":gpt-5", "openai: ", "openai:a\x00b", "openai:" + "x" * 300]
)
def test_a_name_without_provider_or_model_is_refused(name: str) -> None:
    with pytest.raises(ModelNameInvalid, match="not the name of a model"):
        model_resolve(name)


def test_an_unknown_provider_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ModelNameInvalid) as caught:
        model_resolve("nonsense:x")
    for vendor in VENDORS:
        assert vendor.name in caught.value.next_step


@pytest.mark.parametrize("vendor", [vendor for vendor in VENDORS if vendor.needs_key], ids=lambda vendor: vendor.name)
def test_a_vendors_key_goes_to_that_vendor(vendor: Vendor, settings: Settings) -> None:
    setattr(settings, vendor.key_setting, "the-key")
    for name in (vendor.name, *vendor.aliases):
        spec = model_resolve(f"{name}:m")
        assert (spec.provider, spec.protocol, spec.base_url) == (vendor.name, vendor.protocol, vendor.base_url)
        assert (spec.api_key.reveal(), spec.key_source) == ("the-key", vendor.key_setting)
    assert model_resolve(f"{vendor.name}:m", "http://127.0.0.1:1").api_key.reveal() == NO_KEY
    setattr(settings, vendor.key_setting, "")
    with pytest.raises(ModelNotConfigured) as caught:
        model_resolve(f"{vendor.name}:m")
    assert vendor.key_setting in caught.value.next_step


def test_a_program_of_the_users_is_reached_where_the_operator_allows_it(settings: Settings) -> None:
    assert model_resolve("ollama:qwen3:8b").base_url == "http://127.0.0.1:11434/v1"
    settings.ARCHON_MODEL_BASE_URLS = []
    with pytest.raises(BaseUrlNotAllowed):
        model_resolve("ollama:qwen3:8b")
    settings.OLLAMA_BASE_URL = "http://ollama:11434/v1"
    assert model_resolve("ollama:qwen3:8b").base_url == "http://ollama:11434/v1"


def test_stored_keys_come_before_the_operators_and_stay_at_their_address() -> None:
    mine = StoredKey(vendor="openai", base_url="", secret=Secret("mine"), source="your key")
    there = StoredKey(vendor="openai", base_url="http://127.0.0.1:9/v1", secret=Secret("there"), source="your key")
    stored = (there, mine)
    assert model_resolve("openai:m", stored=stored).api_key.reveal() == "mine"
    assert model_resolve("openai:m", "http://127.0.0.1:9/v1/", stored=stored).api_key.reveal() == "there"
    assert model_resolve("openai:m", "http://127.0.0.1:9/v2", stored=stored).api_key.reveal() == NO_KEY
    assert model_resolve("openai:m", "http://127.0.0.1:8/v1", stored=stored).api_key.reveal() == NO_KEY
    with pytest.raises(ModelNotConfigured):
        model_resolve("anthropic:m", stored=stored)


def test_the_default_model_is_one_that_there_is_a_key_for(settings: Settings) -> None:
    settings.OPENAI_API_KEY = ""
    settings.GEMINI_API_KEY = "k"
    assert model_resolve().provider == "gemini"
    mine = StoredKey(vendor="anthropic", base_url="", secret=Secret("mine"), source="your key")
    assert model_resolve(stored=(mine,)).provider == "anthropic"


def test_a_secret_is_not_shown() -> None:
    spec = model_resolve("openai:gpt-5-mini")
    assert OWN_KEY not in f"{spec!r} {spec} {spec.api_key} {spec.api_key!r}"
    assert Secret("a") == Secret("a") != Secret("b")
