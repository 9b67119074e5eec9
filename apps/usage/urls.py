"""Addresses of models and their keys, below ``/api/``."""

from __future__ import annotations

from django.urls import path

from apps.usage import views

urlpatterns = [
    path("agents/models/", views.CatalogueView.as_view(), name="models"),
    path("agents/keys/", views.ProviderKeyListView.as_view(), name="provider-keys"),
    path("agents/keys/<uuid:provider_key_id>/", views.ProviderKeyDetailView.as_view(), name="provider-key"),
    path("agents/keys/<uuid:provider_key_id>/test/", views.ProviderKeyTestView.as_view(), name="provider-key-test"),
    path("projects/<uuid:project_id>/models/", views.ProjectModelsView.as_view(), name="project-models"),
]
