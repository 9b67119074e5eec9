"""Node: packages by npm, pnpm or yarn, tests by what package.json's scripts call."""

from __future__ import annotations

import re

from apps.projects.ecosystems.sources import SourceCollector, host_ask
from apps.projects.ecosystems.types import Ecosystem


def _sources(collector: SourceCollector) -> None:
    if registry := host_ask("npm", "config", "get", "registry"):
        collector.environment["npm_config_registry"] = collector.location(registry)


NODE = Ecosystem(
    name="node",
    title="Node",
    places=lambda checkout: (),
    setup=lambda checkout, place: None,
    checks=lambda checkout, place: (),
    programs=("node", "npm"),
    sources=_sources,
    setup_names=re.compile(r"package(-lock)?\.json|npm-shrinkwrap\.json|pnpm-(lock|workspace)\.yaml|yarn\.lock"),
    configuration_names=re.compile(r"package\.json|(jest|vitest)\.config\..*"),
    test_names=re.compile(r".*\.(test|spec)\.\w+"),
)
