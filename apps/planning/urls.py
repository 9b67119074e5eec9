"""Addresses below ``/api/planning/``."""

from __future__ import annotations

from django.urls import path

from apps.planning import views

urlpatterns = [
    path("plans/", views.PlanListView.as_view(), name="planning-plans"),
    path("plans/<uuid:plan_id>/", views.PlanDetailView.as_view(), name="planning-plan"),
    path("features/", views.FeatureListView.as_view(), name="planning-features"),
    path("features/<uuid:feature_id>/", views.FeatureDetailView.as_view(), name="planning-feature"),
    path("tasks/", views.TaskListView.as_view(), name="planning-tasks"),
    path("tasks/<uuid:task_id>/", views.TaskDetailView.as_view(), name="planning-task"),
]
