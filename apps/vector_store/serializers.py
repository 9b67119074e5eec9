"""Shapes of embedding over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from .embedders import MAX_DIMENSION
from .services import MAX_CHARACTERS, MAX_TEXTS, MAX_TOTAL
from .types import EMBED_KINDS, SLOTS, SPACE_STATES

_NAME: dict[str, Any] = {"max_length": 700, "allow_blank": True, "default": ""}


class EmbedSerializer(serializers.Serializer[Any]):
    texts = serializers.ListField(
        # White space counts in code, and is embedded as it is.
        child=serializers.CharField(max_length=MAX_CHARACTERS, trim_whitespace=False),
        min_length=1,
        max_length=MAX_TEXTS,
        help_text=f"{MAX_TOTAL} characters in all at most.",
    )
    kind = serializers.ChoiceField(
        choices=EMBED_KINDS, default="document", help_text="Some models read a question otherwise than an answer."
    )
    model = serializers.CharField(
        **_NAME, help_text="minilm, archon-static or PROVIDER:MODEL, with @URL behind it for another address."
    )
    dimension = serializers.IntegerField(
        min_value=0,
        max_value=MAX_DIMENSION,
        default=0,
        help_text="Of a named model's vectors; 0: as it has by itself.",
    )
    project = serializers.UUIDField(
        required=False, allow_null=True, help_text="Whose keys and limits are used; providers' embedders need one."
    )

    def validate_texts(self, texts: list[str]) -> list[str]:
        if sum(map(len, texts)) > MAX_TOTAL:
            raise serializers.ValidationError(f"{MAX_TOTAL} characters in all at most; send them in several requests.")
        return texts


class EmbeddingsSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(help_text="VENDOR:MODEL:VERSION:DIMENSION; only vectors of one compare.")
    dimension = serializers.IntegerField()
    embeddings = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()),
        help_text="One a text, in order; each of length one.",
    )


class EmbeddersSetSerializer(serializers.Serializer[Any]):
    primary = serializers.CharField(
        **_NAME, help_text="minilm, archon-static, PROVIDER:MODEL or off; empty: what the server says."
    )
    second = serializers.CharField(**_NAME, help_text="One more vector a chunk, which fills in later.")
    dimension = serializers.IntegerField(min_value=0, max_value=MAX_DIMENSION, default=0)


class SpaceSerializer(serializers.Serializer[Any]):
    slot = serializers.ChoiceField(choices=SLOTS)
    state = serializers.ChoiceField(choices=SPACE_STATES)
    embedder_key = serializers.CharField(help_text="Of the vectors that serve; empty: none do.")
    filling_key = serializers.CharField(help_text="Of those that fill in behind; empty: none do.")
    vectors = serializers.IntegerField()
    detail = serializers.CharField()
    next_step = serializers.CharField()


class EmbeddersSerializer(serializers.Serializer[Any]):
    primary = serializers.CharField(help_text="As it was set; empty: what the server says.")
    second = serializers.CharField()
    dimension = serializers.IntegerField()
    spaces = SpaceSerializer(many=True)
