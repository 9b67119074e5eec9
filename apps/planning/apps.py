"""Django's record of the app."""

from django.apps import AppConfig


class PlanningConfig(AppConfig):
    name = "apps.planning"
