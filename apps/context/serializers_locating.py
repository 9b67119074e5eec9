"""Shapes of locating, of the repository map and of packed context."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.context.places import TEXT_CHARACTERS
from apps.context.serializers import IndexStateSerializer

_FILES, _BUDGET_LEAST, _BUDGET_MOST, _BUDGET = 100, 50, 200_000, 2_000


class LocateRequestSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    text = serializers.CharField(
        max_length=TEXT_CHARACTERS,
        trim_whitespace=False,
        help_text="A goal, an issue (its title on the first line), or a failing test's output.",
    )
    session = serializers.UUIDField(required=False, help_text="The files as they are in this session of the project.")
    limit = serializers.IntegerField(default=10, min_value=1, max_value=_FILES)


class LocatedFunctionSerializer(serializers.Serializer[Any]):
    qualified_name = serializers.CharField()
    kind = serializers.CharField()
    start_line = serializers.IntegerField()
    end_line = serializers.IntegerField()
    score = serializers.FloatField()


class LocatedSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    score = serializers.FloatField()
    functions = LocatedFunctionSerializer(many=True, help_text="Those in the file that fit best.")
    reasons = serializers.ListField(child=serializers.CharField(), help_text="In words, the strongest first.")
    signals = serializers.DictField(child=serializers.FloatField(), help_text="Each from 0 to 1, before its weight.")


class LocateResultSerializer(serializers.Serializer[Any]):
    located = LocatedSerializer(many=True)
    index = IndexStateSerializer()
    notes = serializers.ListField(child=serializers.CharField())


class MapRequestSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    session = serializers.UUIDField(required=False)
    budget = serializers.IntegerField(default=_BUDGET, min_value=_BUDGET_LEAST, max_value=_BUDGET_MOST)
    text = serializers.CharField(
        max_length=TEXT_CHARACTERS,
        required=False,
        default="",
        allow_blank=True,
        help_text="What the map is drawn towards.",
    )


class MapSerializer(serializers.Serializer[Any]):
    text = serializers.CharField()
    tokens = serializers.IntegerField()
    files = serializers.IntegerField()
    symbols = serializers.IntegerField()
    left_out = serializers.IntegerField(help_text="Definitions that there was no room for.")


class MapResultSerializer(serializers.Serializer[Any]):
    map = MapSerializer()
    index = IndexStateSerializer()


class PackRequestSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    session = serializers.UUIDField(required=False)
    text = serializers.CharField(max_length=TEXT_CHARACTERS, trim_whitespace=False, help_text="The task.")
    budget = serializers.IntegerField(default=4 * _BUDGET, min_value=_BUDGET_LEAST, max_value=_BUDGET_MOST)


class PieceSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=("rules", "hit", "caller", "callee", "test", "map"))
    path = serializers.CharField()
    start_line = serializers.IntegerField(help_text="0: no part of a file.")
    end_line = serializers.IntegerField()
    symbol = serializers.CharField()
    commit = serializers.CharField()
    score = serializers.FloatField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field, where the base has a name


class PackResultSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(source="packed.text")
    tokens = serializers.IntegerField(source="packed.tokens")
    pieces = PieceSerializer(source="packed.pieces", many=True)
    left_out = serializers.ListField(source="packed.left_out", child=serializers.CharField())
    index = IndexStateSerializer()
    notes = serializers.ListField(child=serializers.CharField())


class DuplicatesQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    limit = serializers.IntegerField(default=100, min_value=1, max_value=1_000)


class DuplicateLinesSerializer(serializers.Serializer[Any]):
    first_path = serializers.CharField()
    first_start = serializers.IntegerField()
    first_end = serializers.IntegerField()
    second_path = serializers.CharField()
    second_start = serializers.IntegerField()
    second_end = serializers.IntegerField()
    lines = serializers.IntegerField(help_text="Lines that say something: blank ones, comments and imports are none.")


class DuplicatesSerializer(serializers.Serializer[Any]):
    duplicates = DuplicateLinesSerializer(source="duplication.duplicates", many=True, help_text="The longest first.")
    shares = serializers.DictField(
        source="duplication.shares",
        child=serializers.FloatField(),
        help_text="By file: which share stands elsewhere too.",
    )
    truncated = serializers.BooleanField(source="duplication.truncated", help_text="Not all code was looked at.")
    index = IndexStateSerializer()
