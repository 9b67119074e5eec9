"""The queue, as every process sees it: those that send and those that work. Settings must be ready when it is used."""

from __future__ import annotations

from celery import Celery

app = Celery("archon", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()
