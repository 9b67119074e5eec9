"""Addresses of models, their keys and what they cost, below ``/api/``."""

from __future__ import annotations

from django.urls import path

from apps.usage import views, views_spending

urlpatterns = [
    path("agents/models/", views.CatalogueView.as_view(), name="models"),
    path("agents/keys/", views.ProviderKeyListView.as_view(), name="provider-keys"),
    path("agents/keys/<uuid:provider_key_id>/", views.ProviderKeyDetailView.as_view(), name="provider-key"),
    path("agents/keys/<uuid:provider_key_id>/test/", views.ProviderKeyTestView.as_view(), name="provider-key-test"),
    path("usage/", views_spending.UsageView.as_view(), name="usage"),
    path("usage/limits/project/<uuid:project_id>/", views_spending.ProjectLimitsView.as_view(), name="project-limits"),
    path("usage/limits/user/<uuid:user_id>/", views_spending.UserLimitsView.as_view(), name="user-limits"),
    path("projects/<uuid:project_id>/models/", views.ProjectModelsView.as_view(), name="project-models"),
]
