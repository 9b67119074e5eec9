"""Addresses below ``/api/planning/`` at which people change plans; what only reads there is planning's own."""

from __future__ import annotations

from django.urls import path

from apps.agents import views_plan_parts as parts
from apps.agents import views_plan_texts as texts
from apps.agents import views_plans as plans

urlpatterns = [
    path("plans/import/", texts.PlanImportView.as_view(), name="planning-plan-import"),
    path("plans/<uuid:plan_id>/", plans.PlanView.as_view(), name="planning-plan"),
    path("plans/<uuid:plan_id>/versions/", plans.PlanVersionsView.as_view(), name="planning-plan-versions"),
    path("plans/<uuid:plan_id>/versions/<str:number>/", plans.PlanVersionView.as_view(), name="planning-plan-version"),
    path("plans/<uuid:plan_id>/diff/", plans.PlanDiffView.as_view(), name="planning-plan-diff"),
    path("plans/<uuid:plan_id>/restore/", plans.PlanRestoreView.as_view(), name="planning-plan-restore"),
    path("plans/<uuid:plan_id>/progress/", plans.PlanProgressView.as_view(), name="planning-plan-progress"),
    path("plans/<uuid:plan_id>/diagram/", texts.PlanDiagramView.as_view(), name="planning-plan-diagram"),
    path("plans/<uuid:plan_id>/markdown/", texts.PlanMarkdownView.as_view(), name="planning-plan-markdown"),
    path("features/", parts.FeatureListView.as_view(), name="planning-features"),
    path("features/<uuid:feature_id>/", parts.FeatureView.as_view(), name="planning-feature"),
    path("tasks/", parts.TaskListView.as_view(), name="planning-tasks"),
    path("tasks/<uuid:task_id>/", parts.TaskView.as_view(), name="planning-task"),
    path("tasks/<uuid:task_id>/skip/", parts.TaskSkipView.as_view(), name="planning-task-skip"),
    path("tasks/<uuid:task_id>/unskip/", parts.TaskUnskipView.as_view(), name="planning-task-unskip"),
    path("tasks/<uuid:task_id>/split/", parts.TaskSplitView.as_view(), name="planning-task-split"),
]
