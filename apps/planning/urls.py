"""Addresses below ``/api/planning/`` that only read; those at which something is changed are agents'."""

from __future__ import annotations

from django.urls import path

from apps.planning import views

urlpatterns = [
    path("plans/", views.PlanListView.as_view(), name="planning-plans"),
]
