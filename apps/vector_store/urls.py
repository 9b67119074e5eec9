"""Addresses below ``/api/vector-store/`` that belong to this app; searching is a view of ``context``."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("embed/", views.EmbedView.as_view()),
    path("projects/<uuid:project_id>/embedders/", views.EmbeddersView.as_view()),
]
