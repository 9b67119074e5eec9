"""The Celery application: ``celery -A celery_app worker`` and ``celery -A celery_app beat``."""

from __future__ import annotations

from apps.agents.worker import SessionHostStep
from apps.core.worker_presence import AnnounceWorker
from config.bootstrap import prepare
from config.celery import app
from config.worker_beat import BeatThreadStep

prepare()

app.steps["worker"].update((AnnounceWorker, SessionHostStep, BeatThreadStep))
