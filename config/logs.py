"""What the log looks like: one event a line, with the request's id, for people or as JSON."""

from __future__ import annotations

import logging
from typing import Any

import structlog
from structlog.types import EventDict, WrappedLogger


def _objects_drop(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Django attaches the request itself, Celery its message again: of no use in a log."""
    event.pop("request", None)
    event.pop("data", None)
    return event


def _crash_is(record: logging.LogRecord) -> bool:
    return record.exc_info is not None


def logging_settings(*, level: str, json: bool) -> dict[str, Any]:
    """Django's LOGGING: everything to standard error, at ``level`` and above."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _objects_drop,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        rendering = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "()": "structlog.stdlib.ProcessorFormatter",
                "foreign_pre_chain": shared,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            }
        },
        "filters": {"crashes": {"()": "django.utils.log.CallbackFilter", "callback": _crash_is}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # The request log has a line for each request already, so these would say it twice.
            "django": {"handlers": [], "propagate": True, "level": "INFO"},
            "django.request": {"level": "ERROR", "filters": ["crashes"]},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "django.server": {"handlers": [], "propagate": True, "level": "WARNING"},
            "uvicorn.access": {"handlers": [], "propagate": True, "level": "WARNING"},
            # Two lines for each heartbeat; a job that fails is an error and logged.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            # A line for every job that is due, which is one each three seconds.
            "celery.beat": {"level": "WARNING"},
            # A line for every request to a model; what was asked and answered is in the session's events.
            "httpx": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            "openai": {"level": "WARNING"},
            # Says at length that a client went away while it was being answered.
            "asyncio": {"level": "ERROR"},
        },
    }
