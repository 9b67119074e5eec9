"""Shapes of a session's report over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.agents.types import AgentType, SessionOutcome, SessionStatus
from apps.planning.types import TaskStatus, TaskType, VersionSource


def _names(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(), **options)


class ReportCheckSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    command = serializers.CharField(allow_blank=True)
    passed = serializers.BooleanField()
    exit_code = serializers.IntegerField(allow_null=True)
    output = serializers.CharField(allow_blank=True)


class ReportFindingSerializer(serializers.Serializer[Any]):
    path = serializers.CharField(allow_blank=True)
    line = serializers.IntegerField(allow_null=True)
    severity = serializers.CharField(allow_blank=True)
    comment = serializers.CharField(allow_blank=True)
    resolved = serializers.BooleanField()


class ReportTaskSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    title = serializers.CharField()
    type = serializers.ChoiceField(choices=TaskType.choices)
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    attempts = serializers.IntegerField()
    commit = serializers.CharField(allow_blank=True)
    result = serializers.CharField(allow_blank=True, help_text="What its agent says that it did.")
    files = _names(help_text="That its commit touches.")
    checks = ReportCheckSerializer(many=True, help_text="Its own, on its last commit.")
    findings = ReportFindingSerializer(many=True, help_text="The reviewer's.")
    reason = serializers.CharField(allow_blank=True, help_text="Why it was not done.")


class ReportFeatureSerializer(serializers.Serializer[Any]):
    key = serializers.CharField(allow_blank=True)
    title = serializers.CharField()
    depth = serializers.IntegerField(help_text="0: not within another one; those within it follow it.")
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    tasks = ReportTaskSerializer(many=True)


class ReportDroppedSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    title = serializers.CharField()
    version = serializers.IntegerField(help_text="Of the plan, the first one without it.")
    reason = serializers.CharField(allow_blank=True)


class ReportVersionSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    source = serializers.ChoiceField(  # type: ignore[assignment]  # a field of this name is no attribute
        choices=VersionSource.choices
    )
    reason = serializers.CharField(allow_blank=True)
    added = serializers.IntegerField()
    removed = serializers.IntegerField()
    changed = serializers.IntegerField()


class ReportProjectCheckSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    command = serializers.CharField(allow_blank=True)
    before = serializers.CharField(allow_null=True, help_text="passed, failed or flaky; null: it was not run.")
    after = serializers.CharField(allow_null=True)
    tests_before = serializers.IntegerField()
    tests_after = serializers.IntegerField()
    exit_code = serializers.IntegerField(allow_null=True)
    output = serializers.CharField(allow_blank=True)
    fixed = _names()
    newly_failing = _names()
    still_failing = _names()
    disappeared = _names(help_text="Gone or skipped.")
    flaky = _names()


class ReportModelSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    calls = serializers.IntegerField()
    failed = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    cached_share = serializers.FloatField()
    cost_usd = serializers.FloatField()
    priced = serializers.BooleanField()
    estimated = serializers.BooleanField()


class ReportSpendingSerializer(serializers.Serializer[Any]):
    models = ReportModelSerializer(many=True)
    steps = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_share = serializers.FloatField()
    cost_usd = serializers.FloatField()
    priced = serializers.BooleanField()
    seconds = serializers.IntegerField(allow_null=True, help_text="Null while a worker has the session.")


class ReportSerializer(serializers.Serializer[Any]):
    markdown = serializers.CharField(help_text="The report in words, as the other media type has it.")
    title = serializers.CharField(help_text="What a pull request of it is called.")
    session_id = serializers.UUIDField()
    goal = serializers.CharField()
    agent_type = serializers.ChoiceField(choices=AgentType.choices)
    status = serializers.ChoiceField(choices=SessionStatus.choices)
    final = serializers.BooleanField(help_text="False: the session has not ended, and this is what there is so far.")
    outcome = serializers.ChoiceField(choices=SessionOutcome.choices, allow_null=True)
    reasons = _names(help_text="What speaks against the result.")
    summary = serializers.CharField(allow_blank=True)
    answer = serializers.CharField(allow_blank=True, help_text="Of an agent that only had to read.")
    plan_version = serializers.IntegerField(allow_null=True)
    approved_version = serializers.IntegerField(allow_null=True)
    versions = ReportVersionSerializer(many=True)
    features = ReportFeatureSerializer(many=True)
    dropped = ReportDroppedSerializer(many=True, help_text="Tasks that an earlier version of the plan had.")
    checks = ReportProjectCheckSerializer(many=True)
    changed_tests = _names()
    changed_check_config = _names()
    files = _names(help_text="That the tasks which were done have touched.")
    base_branch = serializers.CharField()
    base_commit = serializers.CharField()
    branch = serializers.CharField()
    head_commit = serializers.CharField(allow_blank=True)
    merged_commit = serializers.CharField(allow_blank=True)
    published_branch = serializers.CharField(allow_blank=True, help_text="On the project's origin; empty: not pushed.")
    spending = ReportSpendingSerializer()
