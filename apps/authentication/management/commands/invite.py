"""``manage.py invite``: let somebody register where registration is by invitation."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.authentication.services.invites import invite_create


class Command(BaseCommand):
    help = "Make an invite for one registration and print its token."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", default="", help="the only address that may use it")
        parser.add_argument("--days", type=int, default=7, help="how long it is good (7)")

    def handle(self, *args: Any, email: str, days: int, **options: Any) -> None:
        self.stdout.write(invite_create(created_by=None, email=email, days=days).value)
