"""The Celery application: ``celery -A celery_app worker`` and ``celery -A celery_app beat``."""

from __future__ import annotations

from celery import Celery

from apps.agents.worker import SessionHostStep
from config.bootstrap import prepare

prepare()

app = Celery("archon")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    # A session whose worker died is taken up within the lease and one sweep.
    "sweep-sessions": {"task": "apps.agents.tasks.sweep_sessions", "schedule": 3.0, "options": {"expires": 3}},
}
app.steps["worker"].add(SessionHostStep)
