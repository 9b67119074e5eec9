"""Django's record of the app."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "apps.chat"
