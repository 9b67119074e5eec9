"""Production: no default secret, HTTPS only, registration closed."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from config.logs import logging_settings

from .base import *  # noqa: F403
from .base import ARCHON_KILL_POINTS, ARCHON_LOG_LEVEL, JWT_SECRET_KEY, SECRET_KEY, env

DEBUG = False
for _name, _value in (("DJANGO_SECRET_KEY", SECRET_KEY), ("JWT_SECRET_KEY", JWT_SECRET_KEY)):
    if len(_value) < 50 or len(set(_value)) < 5:
        raise ImproperlyConfigured(f"{_name} must be set to at least 50 random characters in production")
if ARCHON_KILL_POINTS:
    raise ImproperlyConfigured("ARCHON_KILL_POINTS is for tests that kill processes: unset it in production")
SECURE_SSL_REDIRECT = env.bool("DJANGO_SECURE_SSL_REDIRECT", default=True)
# Whoever looks after the process asks it over plain HTTP from beside it.
SECURE_REDIRECT_EXEMPT = [r"^api/health/$", r"^api/ready/$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
ARCHON_LOG_FORMAT = env("ARCHON_LOG_FORMAT", default="json")
LOGGING = logging_settings(level=ARCHON_LOG_LEVEL.upper(), json=ARCHON_LOG_FORMAT == "json")
