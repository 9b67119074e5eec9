"""Which model a role calls, by what the request, the project and the server say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import InvalidInput
from apps.usage.choices import (
    ROLES,
    ModelConfiguration,
    ModelOptions,
    SessionModels,
    choices_make,
    configuration_read,
    options_merge,
    reference_join,
    reference_split,
    server_configuration,
)
from apps.usage.errors import ModelNotAvailable, ModelRefused
from integrations.llm_providers.credentials import StoredKey
from integrations.llm_providers.types import Secret
from integrations.llm_providers.vendors import VENDORS


def configuration(**said: Any) -> ModelConfiguration:
    return configuration_read(said)


@pytest.fixture(autouse=True)
def _configured(settings: LazySettings) -> Iterator[None]:
    for vendor in VENDORS:
        for name in (vendor.key_setting, vendor.base_url_setting):
            if name:
                setattr(settings, name, "")
    settings.OPENAI_API_KEY, settings.ANTHROPIC_API_KEY = "sk-openai", "sk-anthropic"
    settings.ARCHON_MODEL, settings.ARCHON_MODELS, settings.ARCHON_MODEL_FALLBACKS = "", [], []
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]
    settings.ARCHON_MODEL_KEYS = {}
    yield


def test_what_is_said_for_a_role_counts_before_what_is_said_for_all() -> None:
    place = configuration(
        model="openai:gpt-5",
        base_url="http://127.0.0.1:1/v1",
        effort="high",
        temperature=0.2,
        fallbacks=["openai:gpt-5-mini"],
        models={"planner": {"model": "anthropic:claude-sonnet-4-5", "effort": "low"}, "coder": {"temperature": 1}},
    )
    planner, coder = place.options_for("planner"), place.options_for("coder")
    # The address belongs to the other model; the rest holds for all roles.
    assert (planner.model, planner.base_url, planner.effort) == ("anthropic:claude-sonnet-4-5", "", "low")
    assert (planner.temperature, planner.fallbacks) == (0.2, ("openai:gpt-5-mini",))
    assert (coder.model, coder.base_url, coder.temperature) == ("openai:gpt-5", "http://127.0.0.1:1/v1", 1.0)
    assert place.options_for("reviewer") == place.options_for("researcher")


def test_the_first_place_that_names_a_model_is_the_last_one_that_is_looked_at() -> None:
    request = configuration(effort="high", models={"coder": {"model": "openai:gpt-5"}})
    project = configuration(model="anthropic:claude-opus-4-5", tool_calls="envelope", temperature=0.5)
    server = configuration(model="openai:gpt-4o", fallbacks=["openai:gpt-4o-mini"], edit_format="whole")
    coder = options_merge("coder", [request, project, server])
    assert coder == ModelOptions(model="openai:gpt-5", effort="high")
    planner = options_merge("planner", [request, project, server])
    assert planner == ModelOptions(
        model="anthropic:claude-opus-4-5", effort="high", tool_calls="envelope", temperature=0.5
    )


def test_a_zero_temperature_and_no_fallbacks_are_something_said() -> None:
    request = configuration(temperature=0, fallbacks=[])
    merged = options_merge("coder", [request, configuration(model="openai:a", temperature=1, fallbacks=["openai:b"])])
    assert (merged.temperature, merged.fallbacks) == (0.0, ())


_options = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["openai:a", "anthropic:b", "ollama:c"]),
        "base_url": st.sampled_from(["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]),
        "effort": st.sampled_from(["low", "high"]),
        "temperature": st.sampled_from([0.0, 0.5]),
        "fallbacks": st.lists(st.sampled_from(["openai:f", "anthropic:g"]), max_size=2),
    },
)
_places = st.lists(
    st.builds(
        lambda said, models: {**said, "models": models}, _options, st.dictionaries(st.sampled_from(ROLES), _options)
    ),
    min_size=1,
    max_size=3,
)


@given(_places, st.sampled_from(ROLES))
def test_places_behind_the_one_that_names_the_model_change_nothing(said: list[dict[str, Any]], role: Any) -> None:
    places = [configuration_read(place) for place in said]
    merged = options_merge(role, places)
    naming = next((at for at, place in enumerate(places) if place.options_for(role).model), None)
    if naming is None:
        assert merged.model == ""
        return
    assert merged == options_merge(role, places[: naming + 1])
    assert merged.model == places[naming].options_for(role).model
    # What the first place says always holds.
    first = places[0].options_for(role)
    for name in ModelOptions.model_fields:
        if getattr(first, name) not in ("", None):
            assert getattr(merged, name) == getattr(first, name)


@given(st.sampled_from(["openai:a", "openai:qwen@8bit:32b"]), st.sampled_from(["", "http://h/v1", "https://h:1/v1"]))
def test_a_model_with_its_address_is_one_text(name: str, address: str) -> None:
    assert reference_split(reference_join(name, address)) == (name, address)
    options = ModelOptions(model=reference_join(name, address))
    assert (options.model, options.base_url) == (name, address)
    assert ModelOptions.model_validate(options.model_dump(mode="json")) == options


@pytest.mark.parametrize(
    ("said", "member"),
    [
        ({"effort": "enormous"}, "effort"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"tool_calls": "telepathy"}, "tool_calls"),
        ({"models": {"plannr": {}}}, "plannr"),
        ({"models": {"coder": {"efort": "low"}}}, "efort"),
        ({"fallbacks": ["openai:x"] * 6}, "fallbacks"),
        ({"model": "openai:x@http://a/v1", "base_url": "http://b/v1"}, "another one"),
        ({"model": "x" * 301}, "model"),
    ],
)
def test_nonsense_is_refused_by_its_name(said: dict[str, Any], member: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        configuration_read(said)
    assert member in caught.value.message


def test_choices_are_complete_and_checked() -> None:
    request = configuration(
        model="openai:gpt-5", fallbacks=["claude:claude-sonnet-4-5", "openai:own@http://127.0.0.1:7/v1/"]
    )
    chosen = choices_make(roles=["planner", "coder"], places=[request], stored=())
    assert chosen["planner"] == chosen["coder"]
    assert chosen["coder"].fallbacks == ("anthropic:claude-sonnet-4-5", "openai:own@http://127.0.0.1:7/v1")
    # An address of the vendor's own isn't frozen: it is the operator's to set.
    assert chosen["coder"].base_url == ""


def test_without_any_word_it_is_the_first_provider_with_a_key() -> None:
    chosen = choices_make(roles=["coder"], places=[ModelConfiguration(), server_configuration()], stored=())
    assert chosen["coder"].model == "openai:gpt-5-mini"
    own = StoredKey(vendor="anthropic", base_url="", secret=Secret("s"), source="the user's")
    chosen = choices_make(roles=["coder"], places=[ModelConfiguration(), server_configuration()], stored=[own])
    assert chosen["coder"].model == "anthropic:claude-sonnet-5"


def test_what_cannot_be_called_names_role_and_remedy(settings: LazySettings) -> None:
    request = configuration(model="openai:gpt-5", models={"planner": {"model": "gemini:gemini-2.5-pro"}})
    with pytest.raises(ModelNotAvailable) as caught:
        choices_make(roles=["planner", "coder"], places=[request], stored=())
    assert caught.value.message == "for the planner: there is no key for gemini:gemini-2.5-pro"
    assert "GEMINI_API_KEY" in caught.value.next_step
    assert "keys set gemini" in caught.value.next_step
    assert caught.value.extra == {"role": "planner"}
    request = configuration(model="openai:gpt-5", fallbacks=["openai:x@https://elsewhere.example/v1"])
    with pytest.raises(ModelRefused) as refused:
        choices_make(roles=["coder"], places=[request], stored=())
    assert refused.value.message.startswith("as a fallback: ")
    assert "ARCHON_MODEL_BASE_URLS" in refused.value.next_step


def test_the_operators_settings(settings: LazySettings) -> None:
    settings.ARCHON_MODEL = "openai:gpt-5"
    settings.ARCHON_MODELS = ["planner=anthropic:claude-opus-4-5", " coder = openai:own@http://127.0.0.1:7/v1"]
    settings.ARCHON_MODEL_FALLBACKS = ["openai:gpt-5-mini"]
    settings.ARCHON_MODEL_EFFORT, settings.ARCHON_MODEL_TEMPERATURE = "medium", "0.3"
    server = server_configuration()
    assert server.options_for("planner").model == "anthropic:claude-opus-4-5"
    assert server.options_for("coder").reference == ("openai:own", "http://127.0.0.1:7/v1")
    assert server.options_for("reviewer").model == "openai:gpt-5"
    assert {server.options_for(role).temperature for role in ROLES} == {0.3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARCHON_MODELS", ["writer=openai:gpt-5"]),
        ("ARCHON_MODELS", ["openai:gpt-5"]),
        ("ARCHON_MODEL_EFFORT", "most"),
        ("ARCHON_MODEL_TEMPERATURE", "warm"),
    ],
)
def test_settings_that_are_wrong_are_named(settings: LazySettings, name: str, value: Any) -> None:
    setattr(settings, name, value)
    with pytest.raises(ModelNotAvailable) as caught:
        server_configuration()
    assert name in caught.value.message


def test_a_running_session_has_the_options_on_every_model_of_the_chain() -> None:
    request = configuration(
        model="openai:gpt-5",
        effort="high",
        temperature=0.1,
        tool_calls="envelope",
        edit_format="v4a",
        fallbacks=["anthropic:claude-sonnet-4-5"],
    )
    chosen = choices_make(roles=["planner", "coder"], places=[request], stored=())
    rows: dict[str, Any] = {str(role): options.model_dump(mode="json") for role, options in chosen.items()}
    models = SessionModels.read(rows, model="openai:gpt-5", base_url="", stored=())
    coder = models.for_role("coder")
    assert coder.edit_format == "v4a"
    for spec in (coder.spec, *coder.fallbacks):
        assert (spec.effort, spec.temperature, spec.tool_calls) == ("high", 0.1, "envelope")
    assert [spec.api_key.reveal() for spec in (coder.spec, *coder.fallbacks)] == ["sk-openai", "sk-anthropic"]
    # A role that nothing was chosen for (or a session from before there were roles) has the session's model.
    assert models.for_role("reviewer").spec.name == "openai:gpt-5"
    assert (
        SessionModels.read({}, model="openai:gpt-4o", base_url="", stored=()).for_role("coder").spec.model == "gpt-4o"
    )


def test_a_fallback_whose_key_is_gone_is_left_out(settings: LazySettings) -> None:
    request = configuration(model="openai:gpt-5", fallbacks=["anthropic:claude-sonnet-4-5"])
    chosen = choices_make(roles=["coder"], places=[request], stored=())
    rows: dict[str, Any] = {str(role): options.model_dump(mode="json") for role, options in chosen.items()}
    settings.ANTHROPIC_API_KEY = ""
    models = SessionModels.read(rows, model="openai:gpt-5", base_url="", stored=())
    assert models.for_role("coder").fallbacks == ()
    settings.OPENAI_API_KEY = ""
    models = SessionModels.read(rows, model="openai:gpt-5", base_url="", stored=())
    with pytest.raises(ModelNotAvailable):
        models.for_role("coder")
