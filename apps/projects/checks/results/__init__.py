"""What test runners say about single tests, read out of what came from a sandbox and so may hold anything.

Each reader is a plain function that promises a result for whatever it is given. None of them can tell what a runner
wrote from what the code under test wrote in its place: who wants to know whether a check passed asks the exit code
first (see ``running.check_judge``).

types.py            what a reader returns
files.py            result files: never followed as links, never larger than a bound
junit.py            JUnit XML: pytest, Surefire and Failsafe, Gradle, ctest, PHPUnit
libtest.py          the text of ``cargo test``
go_events.py        ``go test -json``
rspec.py            RSpec's JSON
tap.py              the Test Anything Protocol, for ``make test``
"""

from apps.projects.checks.results.files import result_file_read, result_files_read
from apps.projects.checks.results.go_events import go_events_read
from apps.projects.checks.results.junit import junit_read, junit_read_all
from apps.projects.checks.results.libtest import libtest_read
from apps.projects.checks.results.rspec import rspec_read
from apps.projects.checks.results.tap import tap_read
from apps.projects.checks.results.types import NO_RESULTS, RunnerResults

__all__ = [
    "NO_RESULTS",
    "RunnerResults",
    "go_events_read",
    "junit_read",
    "junit_read_all",
    "libtest_read",
    "result_file_read",
    "result_files_read",
    "rspec_read",
    "tap_read",
]
