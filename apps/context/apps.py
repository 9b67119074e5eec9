"""Django's record of the app."""

from django.apps import AppConfig


class ContextConfig(AppConfig):
    name = "apps.context"
