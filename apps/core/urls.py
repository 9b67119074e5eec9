"""Addresses of the service itself, below ``/api/``."""

from __future__ import annotations

from django.urls import path

from apps.core.views import HealthView, ReadyView, RedocView, SchemaView, SwaggerView

urlpatterns = [
    path("health/", HealthView.as_view(), name="health"),
    path("ready/", ReadyView.as_view(), name="ready"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", SwaggerView.as_view(url_name="schema"), name="docs"),
    path("redoc/", RedocView.as_view(url_name="schema"), name="redoc"),
]
