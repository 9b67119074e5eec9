"""Shapes of models, their keys, and who chose what."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.core.serializers import StrictSerializer

from .choices import (
    EDIT_FORMATS,
    EFFORTS,
    MAX_FALLBACKS,
    MAX_TEMPERATURE,
    NAME_LENGTH,
    ROLES,
    TOOL_CALL_STYLES,
    ModelConfiguration,
    configuration_read,
)
from .keys import SECRET_LENGTH, key_test_state
from .models import KeyScope, KeyTest, ProviderKey


class _OptionsFields(serializers.Serializer[Any]):
    model = serializers.CharField(
        max_length=NAME_LENGTH,
        required=False,
        allow_blank=True,
        default="",
        help_text="PROVIDER:MODEL, or PROVIDER:MODEL@URL; empty: what the project or the server says.",
    )
    base_url = serializers.CharField(
        max_length=500, required=False, allow_blank=True, default="", help_text="An endpoint that the operator allows."
    )
    effort = serializers.ChoiceField(
        choices=EFFORTS, required=False, allow_null=True, default=None, help_text="How much it thinks."
    )
    temperature = serializers.FloatField(
        min_value=0, max_value=MAX_TEMPERATURE, required=False, allow_null=True, default=None
    )
    tool_calls = serializers.ChoiceField(
        choices=TOOL_CALL_STYLES,
        required=False,
        allow_null=True,
        default=None,
        help_text="By the provider's own tool calls, or by JSON of a given shape; null: by what is known of the model.",
    )
    edit_format = serializers.ChoiceField(
        choices=EDIT_FORMATS, required=False, allow_null=True, default=None, help_text="How it changes files."
    )
    fallbacks = serializers.ListField(
        child=serializers.CharField(max_length=NAME_LENGTH + 500),
        max_length=MAX_FALLBACKS,
        required=False,
        allow_null=True,
        default=None,
        help_text="Called in this order when the model doesn't answer.",
    )


class ModelOptionsSerializer(_OptionsFields, StrictSerializer):
    """A model and how it is called; what is left out is what the place says for all roles."""


class RoleModelsSerializer(StrictSerializer):
    planner = ModelOptionsSerializer(required=False)
    coder = ModelOptionsSerializer(required=False)
    reviewer = ModelOptionsSerializer(required=False)
    researcher = ModelOptionsSerializer(required=False)


class ModelConfigurationFields(_OptionsFields):
    """What a session's request or a project says of models: for all roles, and in ``models`` for single ones."""

    models = RoleModelsSerializer(required=False, help_text="By role.")


class ModelConfigurationSerializer(ModelConfigurationFields, StrictSerializer):
    pass


def configuration_of(fields: dict[str, Any]) -> ModelConfiguration:
    """The configuration among validated fields."""
    names = ModelConfiguration.model_fields
    return configuration_read({name: fields[name] for name in names if name in fields})


class ChosenModelSerializer(serializers.Serializer[Any]):
    """What a role calls."""

    model = serializers.CharField(allow_blank=True)
    base_url = serializers.CharField(allow_blank=True)
    effort = serializers.ChoiceField(choices=EFFORTS, allow_null=True)
    temperature = serializers.FloatField(allow_null=True)
    tool_calls = serializers.ChoiceField(choices=TOOL_CALL_STYLES, allow_null=True)
    edit_format = serializers.ChoiceField(choices=EDIT_FORMATS, allow_null=True)
    fallbacks = serializers.ListField(child=serializers.CharField(), allow_null=True)


class UsageShareSerializer(serializers.Serializer[Any]):
    calls = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Of the calls.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Of the input tokens.")
    cached_share = serializers.FloatField(help_text="Of the input tokens, 0 to 1.")
    cost_usd = serializers.FloatField()
    priced = serializers.BooleanField(help_text="False: the price is not known, and cost_usd too small.")
    estimated = serializers.BooleanField()


class ModelUsageSerializer(UsageShareSerializer):
    """What one model took."""

    model = serializers.CharField(source="name")


class RoleUsageSerializer(UsageShareSerializer):
    """What one role took, whichever models it called."""

    role = serializers.CharField()


class KnownModelSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    context_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    input_usd = serializers.FloatField(allow_null=True, help_text="US dollars for a million tokens.")
    output_usd = serializers.FloatField(allow_null=True)
    cached_input_usd = serializers.FloatField(allow_null=True)
    vision = serializers.BooleanField()
    tool_calls = serializers.ChoiceField(choices=TOOL_CALL_STYLES)
    effort = serializers.BooleanField(help_text="Whether it takes an effort.")


class VendorStateSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    local = serializers.BooleanField(help_text="A program that its user runs, and that needs no key.")
    base_url = serializers.CharField()
    configured = serializers.BooleanField()
    key = serializers.ChoiceField(
        choices=[*KeyScope.values, "environment", ""], help_text="Whose key is used; empty: none."
    )
    default_model = serializers.CharField(allow_blank=True)
    next_step = serializers.CharField(allow_blank=True, help_text="What to set where it is not configured.")
    models = KnownModelSerializer(many=True, help_text="Where it is configured, or named by ?vendor=.")


class RoleDefaultSerializer(ChosenModelSerializer):
    configured = serializers.BooleanField()
    problem = serializers.CharField(allow_blank=True)
    next_step = serializers.CharField(allow_blank=True)


class RoleDefaultsSerializer(serializers.Serializer[Any]):
    planner = RoleDefaultSerializer()
    coder = RoleDefaultSerializer()
    reviewer = RoleDefaultSerializer()
    researcher = RoleDefaultSerializer()


class CatalogueSerializer(serializers.Serializer[Any]):
    configured = serializers.BooleanField(help_text="Whether a session that names no model can start.")
    next_step = serializers.CharField(allow_blank=True)
    defaults = RoleDefaultsSerializer()
    vendors = VendorStateSerializer(many=True)
    addresses = serializers.ListField(
        child=serializers.CharField(), help_text="Other addresses that may be named, as prefixes."
    )


class CatalogueQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False, help_text="With the project's keys and defaults.")
    vendor = serializers.CharField(
        max_length=40, required=False, default="", help_text="This provider alone, with its models in any case."
    )


class ProviderKeySerializer(serializers.Serializer[ProviderKey]):
    id = serializers.UUIDField()
    scope = serializers.ChoiceField(choices=KeyScope.choices)
    project = serializers.UUIDField(source="project_id", allow_null=True)
    vendor = serializers.CharField()
    base_url = serializers.CharField(allow_blank=True, help_text="Empty: the provider's own address.")
    address = serializers.CharField(help_text="The one address that the key goes to.")
    hint = serializers.CharField(allow_blank=True, help_text="The key's last four characters.")
    created_by = serializers.SerializerMethodField(help_text="E-mail address.")
    test_state = serializers.SerializerMethodField()
    test_message = serializers.SerializerMethodField()
    test_next_step = serializers.CharField(allow_blank=True)
    tested_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_created_by(self, key: ProviderKey) -> str:
        return key.created_by.email if key.created_by is not None else ""

    def get_test_state(self, key: ProviderKey) -> str:
        return key_test_state(key).value

    def get_test_message(self, key: ProviderKey) -> str:
        if key.test_state == KeyTest.PENDING and key_test_state(key) == KeyTest.BAD:
            return "no worker took the test up; see /api/ready/"
        return key.test_message


class ProviderKeyQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False, help_text="Without keys of other projects.")


class ProviderKeyStoreSerializer(serializers.Serializer[Any]):
    scope = serializers.ChoiceField(choices=KeyScope.choices, default=KeyScope.USER)
    project = serializers.UUIDField(required=False, allow_null=True, default=None)
    vendor = serializers.CharField(max_length=40)
    base_url = serializers.CharField(
        max_length=500,
        required=False,
        allow_blank=True,
        default="",
        help_text="Another address than the provider's own; the operator has to allow it.",
    )
    secret = serializers.CharField(
        max_length=SECRET_LENGTH, write_only=True, help_text="Stored encrypted, never shown."
    )


class ProviderKeyTestSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(
        max_length=NAME_LENGTH,
        required=False,
        allow_blank=True,
        default="",
        help_text="A model that has to be among those that the provider lists.",
    )


assert tuple(RoleModelsSerializer().fields) == ROLES, "every role has its options"
