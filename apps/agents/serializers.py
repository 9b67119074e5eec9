"""Shapes of sessions over HTTP."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from rest_framework import serializers

from apps.agents.serializers_conversation import AttachmentSerializer, GoalMaterialSerializer
from apps.agents.services.master_orchestrator import ANSWER_LIMIT, GOAL_LIMIT
from apps.agents.types import AgentType, Review, Risk, SessionOutcome, SessionStatus
from apps.core.serializers import StrictSerializer
from apps.planning.serializers_versions import ProgressPlanSerializer
from apps.planning.types import Intent, TaskAgent, TaskStatus
from apps.projects.autonomy import Autonomy
from apps.projects.models import MAX_LANES
from apps.usage.serializers import (
    ChosenModelSerializer,
    ModelConfigurationFields,
    ModelUsageSerializer,
    RoleUsageSerializer,
)

_COMMAND_LENGTH = 10_000
CHECK_STATES = ["passed", "failed", "flaky"]
EDIT_FORMATS = ["replace", "v4a", "unified", "whole"]


class LimitsSerializer(StrictSerializer):
    """Strict above all: a misspelt limit would bound nothing."""

    cost_usd = serializers.DecimalField(
        max_digits=12,
        decimal_places=6,
        min_value=Decimal(0),
        required=False,
        coerce_to_string=False,
        help_text="US dollars.",
    )
    tokens = serializers.IntegerField(min_value=1, max_value=10**12, required=False, help_text="In and out together.")
    steps = serializers.IntegerField(min_value=1, max_value=10**6, required=False, help_text="Calls of the model.")
    seconds = serializers.IntegerField(
        min_value=1, max_value=10**7, required=False, help_text="Pauses and waits don't count."
    )


class SessionCreateSerializer(GoalMaterialSerializer, ModelConfigurationFields, StrictSerializer):
    project = serializers.UUIDField()
    goal = serializers.CharField(
        max_length=GOAL_LIMIT,
        required=False,
        allow_blank=True,
        default="",
        help_text="What should be different, in plain words; may be left out with sources or a plan.",
    )
    agent_type = serializers.ChoiceField(choices=AgentType.choices, default=AgentType.EXECUTOR)
    checks = serializers.ListField(
        child=serializers.CharField(max_length=_COMMAND_LENGTH),
        max_length=20,
        required=False,
        default=list,
        help_text="Commands that tell whether the code works; empty: the project's, or found.",
    )
    setup_command = serializers.CharField(max_length=_COMMAND_LENGTH, required=False, allow_blank=True, default="")
    secrets = serializers.ListField(
        child=serializers.CharField(max_length=150),
        max_length=50,
        required=False,
        default=list,
        help_text="Secrets of the project that its commands get: `NAME`, or `NAME:commands,setup,checks` for others.",
    )
    limits = LimitsSerializer(required=False)
    autonomy = serializers.ChoiceField(
        choices=Autonomy.choices,
        required=False,
        help_text="What its agents may do without asking; default: what the project says, else the server.",
    )
    lanes = serializers.IntegerField(
        min_value=1,
        max_value=MAX_LANES,
        required=False,
        help_text="Tasks that may be worked on side by side; default: what the project says, else the server.",
    )
    review = serializers.ChoiceField(
        choices=Review.choices,
        required=False,
        help_text="Which tasks' changes are reviewed; default: what the project says, else the server.",
    )

    plan = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="Carry this plan out instead of making one."
    )
    merged = serializers.BooleanField(
        default=False, help_text="With plan: what is done of it is in the base branch, whatever its commits say."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs["goal"].strip() and not attrs["sources"] and attrs["plan"] is None:
            raise serializers.ValidationError({"goal": "This field is required where there are no sources."})
        return self.limits_fill(attrs)

    def limits_fill(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """With the server's limits where the request has none."""
        limits = attrs.get("limits") or {}
        attrs["limits"] = {
            "cost_usd": limits.get("cost_usd", Decimal(str(settings.ARCHON_LIMIT_COST_USD))),
            "tokens": limits.get("tokens", settings.ARCHON_LIMIT_TOKENS),
            "steps": limits.get("steps", settings.ARCHON_LIMIT_STEPS),
            "seconds": limits.get("seconds", settings.ARCHON_LIMIT_SECONDS),
        }
        return attrs


class ReasonSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    next_step = serializers.CharField()
    details = serializers.DictField(
        required=False,
        help_text="For programs: `{scope, period, owner, limit, maximum, spent, reserved, needed}` of a limit, "
        "`{kind}` of a model's failure; left out where there are none.",
    )


class EditShareSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(help_text="PROVIDER:MODEL that proposed the edits.")
    format = serializers.ChoiceField(choices=EDIT_FORMATS)
    calls = serializers.IntegerField(help_text="Edits that were proposed.")
    well_formed = serializers.IntegerField(help_text="Of these, the ones that could be carried out as written.")


class UsageSerializer(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Input tokens that were read from the provider's cache.")
    cache_write_tokens = serializers.IntegerField(help_text="Input tokens that were written to the provider's cache.")
    cached_share = serializers.FloatField(help_text="The former, of all input tokens; 0 to 1.")
    cost_usd = serializers.FloatField()
    steps = serializers.IntegerField()
    estimated = serializers.BooleanField(help_text="Some tokens were not counted by the provider.")
    priced = serializers.BooleanField(help_text="False: a price is not known, and cost_usd too small.")
    by_model = ModelUsageSerializer(many=True)
    by_role = RoleUsageSerializer(many=True)
    edits = EditShareSerializer(many=True)


class SpentLimitsSerializer(serializers.Serializer[Any]):
    cost_usd = serializers.FloatField(allow_null=True)
    tokens = serializers.IntegerField(allow_null=True)
    steps = serializers.IntegerField(allow_null=True)
    seconds = serializers.IntegerField()


class CheckSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    command = serializers.CharField()
    before = serializers.ChoiceField(choices=CHECK_STATES, allow_null=True)
    after = serializers.ChoiceField(choices=CHECK_STATES, allow_null=True)
    tests_before = serializers.IntegerField(allow_null=True)
    tests_after = serializers.IntegerField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    output = serializers.CharField(allow_blank=True)
    failing_before = serializers.ListField(child=serializers.CharField(), required=False)
    failing_after = serializers.ListField(child=serializers.CharField(), required=False)
    fixed = serializers.ListField(child=serializers.CharField())
    still_failing = serializers.ListField(child=serializers.CharField(), required=False)
    newly_failing = serializers.ListField(child=serializers.CharField())
    disappeared = serializers.ListField(child=serializers.CharField())
    flaky = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Failed and passed on the final commit."
    )
    flaky_before = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Failed and passed on the base commit."
    )
    changed_test_files = serializers.ListField(child=serializers.CharField())
    changed_check_config = serializers.ListField(child=serializers.CharField())


class QuestionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    text = serializers.CharField()
    choices = serializers.ListField(child=serializers.CharField())


class ApprovalSerializer(serializers.Serializer[Any]):
    """A call that waits for a person."""

    call = serializers.UUIDField()
    name = serializers.CharField(help_text="Of the tool.")
    arguments = serializers.DictField(help_text="What it is to be called with, whole.")
    risk = serializers.ChoiceField(choices=Risk.choices, help_text="The worst of what it may do.")
    reasons = serializers.ListField(child=serializers.CharField(), help_text="What it may do, the worst first.")
    digest = serializers.CharField(help_text="Of name and arguments; send it with the decision.")
    requested_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="Until then it can be approved.")


class SpanSerializer(serializers.Serializer[Any]):
    low = serializers.FloatField()
    high = serializers.FloatField()


class EstimateSerializer(serializers.Serializer[Any]):
    """What is left of a plan is likely to take."""

    tasks = serializers.IntegerField()
    steps = SpanSerializer()
    tokens = SpanSerializer()
    cost_usd = SpanSerializer(allow_null=True, help_text="null: a price is not known.")
    basis = serializers.CharField(help_text="From what it is known.")


class PlanApprovalTaskSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    title = serializers.CharField()
    feature = serializers.CharField(help_text="Its title.")
    agent_type = serializers.ChoiceField(choices=TaskAgent.choices)
    needs = serializers.ListField(child=serializers.CharField(), help_text="Keys of the tasks that come first.")
    files = serializers.ListField(child=serializers.CharField(), help_text="That it is expected to touch or make.")
    checks = serializers.ListField(child=serializers.CharField(), help_text="Commands that tell whether it is done.")
    status = serializers.ChoiceField(choices=TaskStatus.choices)


class PlanApprovalSerializer(serializers.Serializer[Any]):
    """A plan that waits for a person; the whole of it is at `/api/planning/plans/{plan}/`."""

    plan = serializers.UUIDField()
    version = serializers.IntegerField(help_text="Send it with the decision.")
    intent = serializers.ChoiceField(choices=Intent.choices)
    summary = serializers.CharField(allow_blank=True)
    tasks = PlanApprovalTaskSerializer(many=True)
    estimate = EstimateSerializer(allow_null=True)


class CitationSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    start_line = serializers.IntegerField()
    end_line = serializers.IntegerField()


class GoalAnswerSerializer(serializers.Serializer[Any]):
    """The answer to a goal that was a question."""

    text = serializers.CharField(help_text="Markdown.")
    citations = CitationSerializer(many=True, help_text="Lines of the base commit.")
    uncited_reason = serializers.CharField(allow_blank=True, help_text="Why nothing is cited.")
    note = serializers.CharField(allow_blank=True, help_text="What speaks against it; mostly empty.")


class SessionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    project = serializers.UUIDField()
    goal = serializers.CharField()
    agent_type = serializers.ChoiceField(choices=AgentType.choices)
    status = serializers.ChoiceField(choices=SessionStatus.choices)
    outcome = serializers.ChoiceField(choices=SessionOutcome.choices, allow_null=True)
    reason = ReasonSerializer(allow_null=True)
    model = serializers.CharField()
    base_url = serializers.CharField(allow_blank=True)
    models = serializers.DictField(child=ChosenModelSerializer(), help_text="What each role calls.")
    autonomy = serializers.ChoiceField(choices=Autonomy.choices)
    review = serializers.ChoiceField(choices=Review.choices)
    agents = serializers.DictField(help_text="What the project said of its agents when the session was made, by role.")
    lanes = serializers.IntegerField(help_text="Tasks that may be worked on side by side.")
    branch = serializers.CharField()
    base_branch = serializers.CharField()
    base_commit = serializers.CharField()
    head_commit = serializers.CharField(allow_blank=True)
    merged_commit = serializers.CharField(allow_blank=True)
    discarded_at = serializers.DateTimeField(allow_null=True)
    turn = serializers.IntegerField(help_text="The follow-up that it works on or ended with; 0: the goal.")
    secrets = serializers.ListField(
        child=serializers.CharField(),
        help_text="The project's secrets that it gets, by name; their values are not shown.",
    )
    attachments = AttachmentSerializer(many=True)
    limits = SpentLimitsSerializer()
    usage = UsageSerializer()
    checks = CheckSerializer(many=True)
    question = QuestionSerializer(allow_null=True)
    approval = ApprovalSerializer(allow_null=True)
    plan = serializers.UUIDField(allow_null=True, help_text="What it makes, revises or carries out.")
    plan_approval = PlanApprovalSerializer(allow_null=True)
    answer = GoalAnswerSerializer(allow_null=True)
    report = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    progress_url = serializers.CharField()


class CurrentSerializer(serializers.Serializer[Any]):
    phase = serializers.CharField(allow_null=True)
    role = serializers.CharField(allow_null=True)
    task = serializers.CharField(allow_null=True)
    tool = serializers.CharField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)


class ProgressSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=SessionStatus.choices)
    outcome = serializers.ChoiceField(choices=SessionOutcome.choices, allow_null=True)
    reason = ReasonSerializer(allow_null=True)
    plan = ProgressPlanSerializer(allow_null=True)
    current = CurrentSerializer(allow_null=True)
    usage = UsageSerializer()
    limits = SpentLimitsSerializer()
    elapsed_s = serializers.FloatField()
    last_seq = serializers.IntegerField()
    checks = CheckSerializer(many=True)
    question = QuestionSerializer(allow_null=True)
    approval = ApprovalSerializer(allow_null=True)
    plan_approval = PlanApprovalSerializer(allow_null=True)
    answer = GoalAnswerSerializer(allow_null=True)


class EventSerializer(serializers.Serializer[Any]):
    seq = serializers.IntegerField()
    type = serializers.CharField()
    payload = serializers.JSONField()
    created_at = serializers.DateTimeField()


class EventPageSerializer(serializers.Serializer[Any]):
    events = EventSerializer(many=True)
    next_after = serializers.IntegerField(help_text="Send it as `after` to read on.")
    last_seq = serializers.IntegerField(help_text="The newest event there is.")
    session_status = serializers.ChoiceField(choices=SessionStatus.choices)


class EventQuerySerializer(serializers.Serializer[Any]):
    after = serializers.IntegerField(min_value=0, max_value=2**62, default=0, help_text="Events after this number.")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=500)


class SessionQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False)
    status = serializers.ChoiceField(choices=SessionStatus.choices, required=False)


class AnswerSerializer(serializers.Serializer[Any]):
    question = serializers.UUIDField()
    answer = serializers.CharField(max_length=ANSWER_LIMIT)


class ResumeSerializer(ModelConfigurationFields, StrictSerializer):
    limits = LimitsSerializer(required=False, help_text="Limits to raise; the others stay.")


class MergeSerializer(serializers.Serializer[Any]):
    allow_failing = serializers.BooleanField(default=False, help_text="Merge although the checks fail.")


class FileChangeSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    status = serializers.CharField()
    additions = serializers.IntegerField(allow_null=True)
    deletions = serializers.IntegerField(allow_null=True)


class DiffSerializer(serializers.Serializer[Any]):
    base = serializers.CharField()
    head = serializers.CharField()
    diff = serializers.CharField(allow_blank=True)
    files = FileChangeSerializer(many=True)
    truncated = serializers.BooleanField()
