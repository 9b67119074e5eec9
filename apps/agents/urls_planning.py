"""Addresses below ``/api/planning/`` that think, or decide on plans that sessions wait with."""

from __future__ import annotations

from django.urls import path

from apps.agents import views_planning as views

urlpatterns = [
    path("plans/generate/", views.PlanGenerateView.as_view(), name="planning-plan-generate"),
    path("plans/<uuid:plan_id>/revise/", views.PlanReviseView.as_view(), name="planning-plan-revise"),
    path("plans/<uuid:plan_id>/approve/", views.PlanApproveView.as_view(), name="planning-plan-approve"),
    path("plans/<uuid:plan_id>/reject/", views.PlanRejectView.as_view(), name="planning-plan-reject"),
    path(
        "features/<uuid:feature_id>/break-down/",
        views.FeatureBreakDownView.as_view(),
        name="planning-feature-break-down",
    ),
]
