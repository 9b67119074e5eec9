"""The Celery application: ``celery -A celery_app worker`` and ``celery -A celery_app beat``."""

from __future__ import annotations

from celery import Celery

from config.bootstrap import prepare
from config.worker_beat import BeatThreadStep

prepare()

app = Celery("archon")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(BeatThreadStep)
