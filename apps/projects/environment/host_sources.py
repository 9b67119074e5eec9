"""Print, as JSON, where this host's pip gets packages from. Run as a process of its own, never imported.

pip alone knows how its files and variables add up and which index it uses when they say nothing, and what it offers
for asking is internal to it: so it is asked here, in a process that may fail without harm. A pip that isn't installed
is taken from the copy that Python carries for new virtual environments.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys


def bundled_pip() -> None:
    import ensurepip

    places = [pathlib.Path(ensurepip.__file__).parent / "_bundled"]
    if wheels := getattr(ensurepip, "_WHEEL_PKG_DIR", None):
        places.insert(0, pathlib.Path(wheels))
    for place in places:
        for wheel in sorted(place.glob("pip-*.whl")):
            sys.path.insert(0, str(wheel))
            return


def main() -> None:
    try:
        import pip  # noqa: F401
    except ImportError:
        bundled_pip()
    from pip._internal.configuration import Configuration
    from pip._internal.models.index import PyPI

    configuration = Configuration(isolated=False)
    configuration.load()
    merged = dict(configuration.items())

    def option(name: str) -> str:
        for section in (":env:", "install", "global"):
            value = merged.get(f"{section}.{name}")
            if value:
                return str(value)
        return ""

    names = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "proxy")
    variables = (
        "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
        "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    )  # fmt: skip
    print(
        json.dumps(
            {
                "pip": {name: option(name) for name in names},
                "environment": {name: os.environ.get(name) or os.environ.get(name.lower(), "") for name in variables},
                "default_index": PyPI.simple_url,
                "default_file_host": PyPI.file_storage_domain,
            }
        )
    )


if __name__ == "__main__":
    main()
