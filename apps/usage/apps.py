"""Django's record of the app."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "apps.usage"
