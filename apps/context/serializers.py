"""Shapes of indexes, files and searches."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apps.context.models import CodeFile, FileState, IndexEvent, IndexJob, JobState, JobTarget
from apps.context.searching.search import QUERY_CHARACTERS
from apps.context.types import INDEX_STATES, SEARCH_MODES

_LIMIT = 50


class IndexRequestSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    rebuild = serializers.BooleanField(default=False, help_text="Forget what was read and read everything again.")


class JobSerializer(serializers.ModelSerializer[IndexJob]):
    project = serializers.UUIDField(source="index.project_id", read_only=True)
    session = serializers.UUIDField(source="session_id", read_only=True, allow_null=True)
    target = serializers.ChoiceField(choices=JobTarget.choices, read_only=True)
    state = serializers.ChoiceField(choices=JobState.choices, read_only=True)
    progress = serializers.DictField(read_only=True, help_text="`phase`, `files_done`, `files_total`, `chunks`, …")
    reason = serializers.DictField(read_only=True, allow_null=True, help_text="`code`, `message`, `next_step`.")
    notes = serializers.ListField(child=serializers.DictField(), read_only=True)

    class Meta:
        model = IndexJob
        fields: ClassVar = [
            "id",
            "project",
            "target",
            "session",
            "state",
            "cancel_wanted",
            "progress",
            "reason",
            "notes",
            "commit",
            "attempts",
            "seq",
            "created_at",
            "started_at",
            "text_ready_at",
            "finished_at",
        ]
        read_only_fields = fields


class JobFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()


class IndexEventSerializer(serializers.ModelSerializer[IndexEvent]):
    payload = serializers.DictField(read_only=True)

    class Meta:
        model = IndexEvent
        fields: ClassVar = ["seq", "type", "payload", "created_at"]
        read_only_fields = fields


class EventsQuerySerializer(serializers.Serializer[Any]):
    after = serializers.IntegerField(default=0, min_value=0, max_value=2**31 - 1)
    limit = serializers.IntegerField(default=500, min_value=1, max_value=500)


class IndexEventPageSerializer(serializers.Serializer[Any]):
    events = IndexEventSerializer(many=True)


class IndexStateSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=INDEX_STATES)
    commit = serializers.CharField(help_text="What is searched.")
    head_commit = serializers.CharField(help_text="What the default branch is at.")
    lagging = serializers.BooleanField(help_text="Whether what is searched is otherwise than the files are now.")
    files_done = serializers.IntegerField()
    files_total = serializers.IntegerField()
    reason = serializers.DictField(allow_null=True)
    vectors = serializers.CharField(help_text="How far the vectors are; empty where they weren't asked for.")


class FileFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    session = serializers.UUIDField(required=False, help_text="The files as they are in this session.")
    path = serializers.CharField(required=False, max_length=500, help_text="A beginning of paths.")
    language = serializers.CharField(required=False, max_length=40)
    state = serializers.ChoiceField(choices=FileState.choices, required=False)


class FileSerializer(serializers.ModelSerializer[CodeFile]):
    symbols = serializers.IntegerField(source="symbol_count", read_only=True)
    chunks = serializers.IntegerField(source="chunk_count", read_only=True)
    state = serializers.ChoiceField(choices=FileState.choices, read_only=True)

    class Meta:
        model = CodeFile
        fields: ClassVar = [
            "id",
            "path",
            "language",
            "size",
            "lines",
            "symbols",
            "chunks",
            "complexity",
            "state",
            "reason",
            "blob",
            "indexed_at",
        ]
        read_only_fields = fields


class FileAddSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    path = serializers.CharField(max_length=1_000, trim_whitespace=False)
    content = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="Without it the repository has to have the file, which the rules may leave out.",
    )
    hidden = serializers.BooleanField(default=False, help_text="Leave it out, although the repository has it.")


class FilePathSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    path = serializers.CharField(max_length=1_000, trim_whitespace=False)


class FileAddedSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    job = JobSerializer(help_text="The job that brings it in.")


class SymbolSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    qualified_name = serializers.CharField()
    kind = serializers.CharField()
    start_line = serializers.IntegerField()
    end_line = serializers.IntegerField()
    signature = serializers.CharField()
    docstring = serializers.CharField()
    complexity = serializers.IntegerField()


class ImportSerializer(serializers.Serializer[Any]):
    module = serializers.CharField()
    names = serializers.ListField(child=serializers.CharField())
    line = serializers.IntegerField()
    path = serializers.CharField(help_text="The file of the project that it names; empty: none.")


class TodoSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    text = serializers.CharField()


class DuplicateSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    start_line = serializers.IntegerField()
    end_line = serializers.IntegerField()
    symbol = serializers.CharField()
    own_start_line = serializers.IntegerField()
    own_end_line = serializers.IntegerField()


class SummaryRequestSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=800,
        help_text="`PROVIDER:MODEL`, with `@URL` behind it for another address. Default: the researcher's.",
    )


class FileSummarySerializer(serializers.Serializer[Any]):
    """What a model says that the file is for."""

    state = serializers.ChoiceField(choices=["making", "ready", "failed"])
    text = serializers.CharField(help_text="Empty until it is `ready`.")
    model = serializers.CharField(help_text="`PROVIDER:MODEL`, with `@URL` where it is not the vendor's own address.")
    # DRF takes fields off the class, where the name means something else.
    partial = serializers.BooleanField(  # type: ignore[assignment]
        help_text="The file is long, and the model saw its beginning alone."
    )
    asked_at = serializers.DateTimeField()
    made_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.DictField(allow_null=True, help_text="`{code, message, next_step}` of one that failed.")


class FileDetailSerializer(FileSerializer):
    """A file with its analysis."""

    project = serializers.UUIDField()
    added = serializers.BooleanField(help_text="Whether it was put into the context by hand.")
    summary = FileSummarySerializer(
        allow_null=True, help_text="The one of this content that was asked for last; null: none was."
    )
    definitions = SymbolSerializer(many=True)
    imports = ImportSerializer(many=True)
    dependents = serializers.ListField(child=serializers.CharField(), help_text="Files of the project that import it.")
    todos = TodoSerializer(many=True)
    duplicates = DuplicateSerializer(many=True, help_text="Functions elsewhere with the same text, spacing aside.")

    class Meta(FileSerializer.Meta):
        fields: ClassVar = [
            *FileSerializer.Meta.fields,
            "project",
            "added",
            "summary",
            "definitions",
            "imports",
            "dependents",
            "todos",
            "duplicates",
        ]
        read_only_fields = fields


class ProjectQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()


class LanguageSerializer(serializers.Serializer[Any]):
    language = serializers.CharField()
    files = serializers.IntegerField()
    lines = serializers.IntegerField()
    share = serializers.FloatField()


class EntryPointSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    kind = serializers.CharField()
    name = serializers.CharField()


class HotSpotSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    commits = serializers.IntegerField(help_text="That changed it, of those that were looked at.")
    complexity = serializers.IntegerField()
    lines = serializers.IntegerField()
    score = serializers.FloatField()


class GraphNodeSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    files = serializers.IntegerField()
    lines = serializers.IntegerField()


class GraphEdgeSerializer(serializers.Serializer[Any]):
    source = serializers.CharField()  # type: ignore[assignment]  # a field here, whatever the base class has
    target = serializers.CharField()
    imports = serializers.IntegerField()


class GraphSerializer(serializers.Serializer[Any]):
    nodes = GraphNodeSerializer(many=True)
    edges = GraphEdgeSerializer(many=True)


class OverviewSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    index = IndexStateSerializer()
    files = serializers.IntegerField()
    lines = serializers.IntegerField()
    symbols = serializers.IntegerField()
    skipped = serializers.DictField(
        child=serializers.IntegerField(), help_text="Files that are not read, by the reason."
    )
    languages = LanguageSerializer(many=True)
    entry_points = EntryPointSerializer(many=True)
    hot_spots = HotSpotSerializer(many=True)
    graph = GraphSerializer(help_text="Which folders import from which.")


class SearchRequestSerializer(serializers.Serializer[Any]):
    query = serializers.CharField(max_length=QUERY_CHARACTERS, trim_whitespace=False)
    project = serializers.UUIDField(required=False, help_text="Without it all of your projects are searched.")
    session = serializers.UUIDField(required=False, help_text="The files as they are in this session of the project.")
    mode = serializers.ChoiceField(choices=SEARCH_MODES, default="hybrid")
    limit = serializers.IntegerField(default=10, min_value=1, max_value=_LIMIT)
    path = serializers.ListField(
        child=serializers.CharField(max_length=500), default=list, max_length=20, help_text="Globs; one has to match."
    )
    language = serializers.ListField(child=serializers.CharField(max_length=40), default=list, max_length=20)
    kind = serializers.ListField(child=serializers.CharField(max_length=20), default=list, max_length=20)
    context_lines = serializers.IntegerField(default=2, min_value=0, max_value=20)
    snippet_lines = serializers.IntegerField(default=12, min_value=1, max_value=200)
    explain = serializers.BooleanField(default=False)


class SnippetSerializer(serializers.Serializer[Any]):
    start_line = serializers.IntegerField()
    text = serializers.CharField()


class HitSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    path = serializers.CharField()
    start_line = serializers.IntegerField()
    end_line = serializers.IntegerField()
    line = serializers.IntegerField(help_text="The one that answers best.")
    symbol = serializers.CharField()
    kind = serializers.CharField()
    language = serializers.CharField()
    signature = serializers.CharField()
    score = serializers.FloatField()
    commit = serializers.CharField()
    moved = serializers.BooleanField(
        help_text="The file is otherwise than in the index; the code was found in it again."
    )
    snippet = SnippetSerializer()
    scores = serializers.DictField(help_text="How the score came about, with `explain`.")


class SearchIndexSerializer(IndexStateSerializer):
    project = serializers.UUIDField()


class SearchResultSerializer(serializers.Serializer[Any]):
    hits = HitSerializer(many=True)
    indexes = SearchIndexSerializer(many=True, help_text="How the index of each searched project stands.")
    notes = serializers.ListField(child=serializers.CharField())
    stale = serializers.IntegerField(help_text="Hits that were left out since their files are otherwise now.")
    truncated = serializers.BooleanField(help_text="There is more than was looked at.")
