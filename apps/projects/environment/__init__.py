"""A project's environment: what its code and tests need installed, made once and bound into every sandbox.

types.py            what is described and handed on
detection.py        what the ecosystems say about a checkout → a script and a key
sources.py          the registries that this host is configured for (host_sources.py asks pip)
preparation.py      running the script in a sandbox, and keeping the result
"""

from apps.projects.environment.detection import environment_detect
from apps.projects.environment.preparation import (
    environment_apply,
    environment_prepare,
    environments_delete,
)
from apps.projects.environment.types import (
    NO_ENVIRONMENT,
    Environment,
    EnvironmentSetupFailed,
    EnvironmentSpec,
)

__all__ = [
    "NO_ENVIRONMENT",
    "Environment",
    "EnvironmentSetupFailed",
    "EnvironmentSpec",
    "environment_apply",
    "environment_detect",
    "environment_prepare",
    "environments_delete",
]
