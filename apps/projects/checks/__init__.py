"""A project's checks: found, run by the server where nothing can touch them, compared and judged.

types.py            what is described and reported
detection.py        which checks a checkout has
running.py          a clean checkout, a fresh sandbox, results read test by test (ecosystems/)
judgement.py        before and after → what a change is worth
services.py         whether a check missed a database or the like
reruns.py           which tests are flaky
verification.py     all of it for one commit
"""

from apps.projects.checks.detection import checks_detect
from apps.projects.checks.judgement import checks_compare, outcome_judge
from apps.projects.checks.running import checks_run
from apps.projects.checks.types import (
    CheckComparison,
    CheckReport,
    CheckSpec,
    Outcome,
    Verification,
)
from apps.projects.checks.verification import checks_baseline, checks_verify

__all__ = [
    "CheckComparison",
    "CheckReport",
    "CheckSpec",
    "Outcome",
    "Verification",
    "checks_baseline",
    "checks_compare",
    "checks_detect",
    "checks_run",
    "checks_verify",
    "outcome_judge",
]
