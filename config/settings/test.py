"""The test suite: fixed secrets, cheap hashing, services of its own (see ``tests/conftest.py``)."""

from __future__ import annotations

from .base import *  # noqa: F403

SECRET_KEY = "a-secret-for-tests-alone-" + "0" * 40
JWT_SECRET_KEY = "another-secret-for-tests-" + "1" * 40
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ARCHON_REGISTRATION = "open"
ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]
ALLOWED_HOSTS = ["*"]
FILE_UPLOAD_TEMP_DIR = None
