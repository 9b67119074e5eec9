"""``manage.py sandbox_probe``: can agents' commands be contained on this machine, and if not, why not?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.projects.sandbox.probe import sandbox_probe
from apps.projects.sandbox.toolchains import toolchain_list, toolchain_version


class Command(BaseCommand):
    help = "Try the sandbox that agents' commands run in, and list the toolchains that it shows."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        report = sandbox_probe()
        toolchains = [
            {"name": toolchain.name, "version": toolchain_version(toolchain), "program": str(toolchain.program)}
            for toolchain in toolchain_list()
        ]
        if options["json"]:
            self.stdout.write(json.dumps({**asdict(report), "toolchains": toolchains}, indent=2))
        else:
            for check in report.checks:
                self.stdout.write(f"{'no' if check.problem else 'ok':3} {check.promise} {check.problem}".rstrip())
            for toolchain in toolchains:
                self.stdout.write(f"    {toolchain['name']} {toolchain['version']} ({toolchain['program']})")
        if not report.available:
            raise CommandError(f"no sandbox can be had here. {report.next_step}", returncode=1)
