"""Who may spend how much, what every call of a model took, and which models are called with whose keys."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from apps.core.models import BaseModel
from apps.projects.models import Project

# A call of a small model costs less than a millionth of a dollar, and thousands of them are added up.
DIGITS, PLACES = 18, 9


def _money(**options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=DIGITS, decimal_places=PLACES, **options)


def _sum() -> dict[str, Any]:
    return {"default": 0, "db_default": 0}


class Allowance(models.Model):
    """What a project or a user may spend, whichever sessions spend it: in all, and on one day (UTC).

    Sums are those of the budgets that point here: all of the project or the user once there is a limit, none before
    (``counted``), so that sessions nobody limits don't wait for each other. They move in ``ledger`` alone.
    """

    id = models.BigAutoField(primary_key=True)
    project = models.OneToOneField(
        Project, on_delete=models.CASCADE, related_name="allowance", null=True, blank=True, editable=False
    )
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="allowance",
        null=True,
        blank=True,
        editable=False,
    )
    #: New budgets point here; see ``limits``.
    counted = models.BooleanField(default=False, db_default=False)
    limit_cost_usd = _money(null=True, blank=True)
    limit_tokens = models.BigIntegerField(null=True, blank=True)
    limit_steps = models.BigIntegerField(null=True, blank=True)
    limit_day_cost_usd = _money(null=True, blank=True)
    limit_day_tokens = models.BigIntegerField(null=True, blank=True)
    limit_day_steps = models.BigIntegerField(null=True, blank=True)
    #: Sessions at once; null: what the server's settings say.
    limit_sessions = models.IntegerField(null=True, blank=True)
    spent_cost_usd = _money(**_sum())
    spent_tokens = models.BigIntegerField(**_sum())
    spent_steps = models.BigIntegerField(**_sum())
    reserved_cost_usd = _money(**_sum())
    reserved_tokens = models.BigIntegerField(**_sum())
    reserved_steps = models.BigIntegerField(**_sum())
    #: The day that these are of: that on which a call began.
    day = models.DateField(null=True, blank=True)
    day_spent_cost_usd = _money(**_sum())
    day_spent_tokens = models.BigIntegerField(**_sum())
    day_spent_steps = models.BigIntegerField(**_sum())
    day_reserved_cost_usd = _money(**_sum())
    day_reserved_tokens = models.BigIntegerField(**_sum())
    day_reserved_steps = models.BigIntegerField(**_sum())
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(project__isnull=True, user__isnull=False)
                | models.Q(project__isnull=False, user__isnull=True),
                name="allowance_belongs",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    **{
                        f"{period}{state}_{unit}__gte": 0
                        for period in ("", "day_")
                        for state in ("spent", "reserved")
                        for unit in ("cost_usd", "tokens", "steps")
                    }
                ),
                name="allowance_not_negative",
            ),
        ]


class Budget(models.Model):
    """What one session (its children included) may spend, has spent, and holds for calls under way.

    The columns move in ``ledger``, by statements that add to what is there and never write back what was read.
    """

    scope_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="budgets")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="budgets", null=True, blank=True
    )
    #: Where its spending counts as well. Null: there is no limit of the project or of the user.
    project_allowance = models.ForeignKey(
        Allowance, on_delete=models.SET_NULL, related_name="+", null=True, blank=True, db_index=False
    )
    user_allowance = models.ForeignKey(
        Allowance, on_delete=models.SET_NULL, related_name="+", null=True, blank=True, db_index=False
    )
    limit_cost_usd = models.DecimalField(max_digits=DIGITS, decimal_places=PLACES, null=True, blank=True)
    limit_tokens = models.BigIntegerField(null=True, blank=True)
    limit_steps = models.IntegerField(null=True, blank=True)
    spent_cost_usd = models.DecimalField(max_digits=DIGITS, decimal_places=PLACES, default=0, db_default=0)
    spent_input_tokens = models.BigIntegerField(default=0, db_default=0)
    spent_output_tokens = models.BigIntegerField(default=0, db_default=0)
    spent_cached_tokens = models.BigIntegerField(default=0, db_default=0)
    spent_cache_write_tokens = models.BigIntegerField(default=0, db_default=0)
    spent_steps = models.IntegerField(default=0, db_default=0)
    reserved_cost_usd = models.DecimalField(max_digits=DIGITS, decimal_places=PLACES, default=0, db_default=0)
    reserved_tokens = models.BigIntegerField(default=0, db_default=0)
    reserved_steps = models.IntegerField(default=0, db_default=0)
    estimated = models.BooleanField(default=False, db_default=False)
    unpriced = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    spent_cost_usd__gte=0,
                    spent_input_tokens__gte=0,
                    spent_output_tokens__gte=0,
                    spent_cached_tokens__gte=0,
                    spent_steps__gte=0,
                ),
                name="budget_spent_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(reserved_cost_usd__gte=0, reserved_tokens__gte=0, reserved_steps__gte=0),
                name="budget_reserved_not_negative",
            ),
        ]


class CallState(models.TextChoices):
    RESERVED = "reserved"
    SETTLED = "settled"
    FAILED = "failed"
    #: Its process died, so nobody knows what it took: what was reserved counts as spent.
    LOST = "lost"


class ModelCall(models.Model):
    """One call of a model: what was held for it, and what it took."""

    id = models.BigAutoField(primary_key=True)
    # The unique constraint below is index enough.
    budget = models.ForeignKey(
        Budget, on_delete=models.CASCADE, related_name="calls", db_column="scope_id", db_index=False
    )
    key = models.CharField(max_length=200)
    attempt = models.IntegerField()
    role = models.CharField(max_length=40)
    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=CallState.choices)
    reserved_cost_usd = models.DecimalField(max_digits=DIGITS, decimal_places=PLACES)
    reserved_input_tokens = models.BigIntegerField()
    reserved_output_tokens = models.BigIntegerField()
    input_tokens = models.BigIntegerField(default=0, db_default=0)
    output_tokens = models.BigIntegerField(default=0, db_default=0)
    cached_tokens = models.BigIntegerField(default=0, db_default=0)
    cache_write_tokens = models.BigIntegerField(default=0, db_default=0)
    cost_usd = models.DecimalField(max_digits=DIGITS, decimal_places=PLACES, default=0, db_default=0)
    priced = models.BooleanField(default=True, db_default=True)
    estimated = models.BooleanField(default=False, db_default=False)
    error = models.TextField(blank=True, default="", db_default="")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        # Reports and the sums of a day look at spans of time.
        indexes = [models.Index(fields=["started_at"], name="model_call_started")]
        constraints = [
            models.UniqueConstraint(fields=["budget", "key", "attempt"], name="model_call_unique_attempt"),
            models.CheckConstraint(
                condition=models.Q(state__in=["reserved", "settled", "failed", "lost"]), name="model_call_state_known"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    reserved_cost_usd__gte=0,
                    reserved_input_tokens__gte=0,
                    reserved_output_tokens__gte=0,
                    input_tokens__gte=0,
                    output_tokens__gte=0,
                    cached_tokens__gte=0,
                    cost_usd__gte=0,
                ),
                name="model_call_not_negative",
            ),
        ]


class KeyScope(models.TextChoices):
    """Whose sessions a stored key is for."""

    PROJECT = "project"
    USER = "user"
    SERVER = "server"


class KeyTest(models.TextChoices):
    """What came of trying a stored key."""

    UNTESTED = "untested"
    PENDING = "pending"
    GOOD = "good"
    BAD = "bad"


class ProviderKey(BaseModel):
    """A key of a provider of models, for one address and no other. The secret is encrypted and never shown.

    Written by ``keys`` alone.
    """

    scope = models.CharField(max_length=10, choices=KeyScope.choices)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="provider_keys", null=True, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="provider_keys", null=True, blank=True
    )
    vendor = models.CharField(max_length=40)
    #: Canonical; empty: the vendor's own address.
    base_url = models.CharField(max_length=500, blank=True, default="")
    #: Where the key goes: ``base_url``, or the vendor's address as it was when the key was stored.
    address = models.CharField(max_length=500)
    secret = models.TextField()
    #: The secret's last characters, by which its owner knows it again.
    hint = models.CharField(max_length=4, blank=True, default="")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="provider_keys_made", null=True, blank=True
    )
    test_state = models.CharField(max_length=10, choices=KeyTest.choices, default=KeyTest.UNTESTED)
    test_requested_at = models.DateTimeField(null=True, blank=True)
    tested_at = models.DateTimeField(null=True, blank=True)
    test_message = models.TextField(blank=True, default="")
    test_next_step = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["scope", "vendor", "base_url", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(scope="server", project__isnull=True, user__isnull=True)
                | models.Q(scope="user", project__isnull=True, user__isnull=False)
                | models.Q(scope="project", project__isnull=False, user__isnull=True),
                name="provider_key_belongs",
            ),
            models.CheckConstraint(
                condition=models.Q(test_state__in=KeyTest.values), name="provider_key_test_state_known"
            ),
            models.UniqueConstraint(
                fields=["vendor", "base_url"], condition=models.Q(scope="server"), name="provider_key_once_server"
            ),
            models.UniqueConstraint(
                fields=["user", "vendor", "base_url"], condition=models.Q(scope="user"), name="provider_key_once_user"
            ),
            models.UniqueConstraint(
                fields=["project", "vendor", "base_url"],
                condition=models.Q(scope="project"),
                name="provider_key_once_project",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vendor} ({self.scope})"


class ProjectModels(models.Model):
    """Which models a project's sessions use, unless they say otherwise (``choices.ModelConfiguration``)."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="model_settings")
    configuration = models.JSONField(default=dict, blank=True)
    updated_at = models.DateTimeField(auto_now=True)
