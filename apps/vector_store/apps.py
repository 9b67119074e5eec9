"""Django's record of the app."""

from django.apps import AppConfig


class VectorStoreConfig(AppConfig):
    name = "apps.vector_store"
