"""Write ``deploy/seccomp.json``, the profile of a container in which bubblewrap works.

``python -m scripts.seccomp_profile``. It is made from the list of what sandboxes are refused, so that the two stay one.
"""

from __future__ import annotations

import json
from pathlib import Path

from apps.projects.sandbox.seccomp import container_profile

PROFILE = Path(__file__).resolve().parent.parent / "deploy" / "seccomp.json"


def profile_text() -> str:
    return json.dumps(container_profile(), indent=2) + "\n"


if __name__ == "__main__":
    PROFILE.write_text(profile_text())
