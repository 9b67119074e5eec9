"""The Celery application: ``celery -A celery_app worker`` and ``celery -A celery_app beat``."""

from __future__ import annotations

from config.bootstrap import prepare

prepare()

# Only now: Celery looks for Django's settings when the application is made, and finds no task without them.
from apps.agents.worker import PublishStopStep, SessionHostStep  # noqa: E402
from apps.context.worker import IndexStopStep  # noqa: E402
from apps.core.worker_presence import AnnounceWorker  # noqa: E402
from apps.projects.worker import FetchStopStep  # noqa: E402
from config.celery import app  # noqa: E402
from config.worker_beat import BeatThreadStep  # noqa: E402

app.steps["worker"].update(
    (AnnounceWorker, SessionHostStep, FetchStopStep, PublishStopStep, IndexStopStep, BeatThreadStep)
)
