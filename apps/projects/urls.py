"""Addresses below ``/api/projects/``."""

from __future__ import annotations

from django.urls import path

from apps.projects import views

urlpatterns = [
    path("", views.ProjectListView.as_view(), name="projects"),
    path("<uuid:project_id>/", views.ProjectDetailView.as_view(), name="project"),
    path("<uuid:project_id>/repository/", views.ProjectRepositoryView.as_view(), name="project-repository"),
    path("<uuid:project_id>/repository/archive/", views.ProjectArchiveView.as_view(), name="project-archive"),
    path("<uuid:project_id>/repository/source/", views.ProjectSourceView.as_view(), name="project-source"),
    path("<uuid:project_id>/repository/sync/", views.ProjectSyncView.as_view(), name="project-sync"),
    path("<uuid:project_id>/repository/branches/", views.ProjectBranchesView.as_view(), name="project-branches"),
    path("<uuid:project_id>/forge/", views.ProjectForgeView.as_view(), name="project-forge"),
    path("<uuid:project_id>/secrets/", views.SecretListView.as_view(), name="project-secrets"),
    path("<uuid:project_id>/secrets/<str:secret_name>/", views.SecretDetailView.as_view(), name="project-secret"),
    path("<uuid:project_id>/members/", views.MemberListView.as_view(), name="project-members"),
    path("<uuid:project_id>/members/<uuid:user_id>/", views.MemberDetailView.as_view(), name="project-member"),
]
