"""Django's record of the app."""

from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "apps.agents"
