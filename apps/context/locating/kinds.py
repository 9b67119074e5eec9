"""Which files people change to mend something: code first, then what stands beside it."""

from __future__ import annotations

import re

#: Parsed languages whose files hold no behaviour, and those without a grammar that hold text.
_TEXTS = frozenset({"markdown", "restructuredtext", "text", "asciidoc", "diff", "csv"})
_DATA = frozenset({"json", "yaml", "toml", "ini", "xml", ""})
_TEST = re.compile(
    r"(?:^|/)(?:tests?|testing|specs?|__tests__|__mocks__|e2e|testdata|fixtures|testsuite|androidTest|benchmarks?)/|"
    r"(?:^|/)(?:test_[^/]*|conftest|[^/]*_tests?|[^/]*[._-](?:test|spec)s?|[^/]*(?:Test|Tests|TestCase|Spec|[a-z0-9]IT))\.\w+$|"
    r"(?:^|/)(?:[^/]*\.)?(?:Unit)?Tests?/"
)
_FOREIGN = re.compile(
    r"(?:^|/)(?:node_modules|vendor|vendored|_vendor|third[_-]?party|external|extern|dist|build|out|target|\.git|"
    r"site-packages|bower_components|generated|gen)/|\.min\.(?:js|css)$|[.-]lock(?:\.json|\.yaml)?$|\.lock$"
)
_EXAMPLE = re.compile(r"(?:^|/)(?:docs?|documentation|examples?|samples?|demos?|tutorials?|site|website)/")
_INITIAL = re.compile(r"(?:^|/)(?:__init__\.pyi?|index\.[cm]?[jt]sx?|mod\.rs|package-info\.java)$")

#: Where the JVM's builds have what is shipped: a ``KeySpec.java`` there is no test, nor is JUnit's own ``Test.java``.
_SHIPPED = re.compile(r"(?:^|/)src/(?:main|commonMain|jvmMain|androidMain|iosMain|jsMain|nativeMain)/")

#: What a file's score is worth.
TEST_WORTH, TEXT_WORTH, DATA_WORTH, FOREIGN_WORTH, EXAMPLE_WORTH = 0.3, 0.25, 0.5, 0.15, 0.6


def is_test(path: str) -> bool:
    return _TEST.search(path) is not None and not _SHIPPED.search(path)


def is_initial(path: str) -> bool:
    """It mostly hands on what others define."""
    return _INITIAL.search(path) is not None


def is_code(path: str, language: str) -> bool:
    """What is wrong is usually wrong there; the other files are told by how they compare with these."""
    return language not in _TEXTS and language not in _DATA and not is_test(path) and not _FOREIGN.search(path)


def worth(path: str, language: str) -> float:
    """By how much a file's score is taken down for what it is."""
    factor = 1.0
    if language in _TEXTS:
        factor *= TEXT_WORTH
    elif language in _DATA:
        factor *= DATA_WORTH
    if is_test(path):
        factor *= TEST_WORTH
    if _FOREIGN.search(path):
        factor *= FOREIGN_WORTH
    elif _EXAMPLE.search(path):
        factor *= EXAMPLE_WORTH
    return factor
