"""Django's record of the app."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "apps.projects"
