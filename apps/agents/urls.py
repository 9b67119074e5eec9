"""Addresses below ``/api/agents/``."""

from __future__ import annotations

from django.urls import path

from apps.agents import views, views_control, views_conversation, views_policy, views_profiles, views_publishing

urlpatterns = [
    path("sessions/", views.SessionListView.as_view(), name="agent-sessions"),
    path("sessions/run/", views.SessionRunView.as_view(), name="agent-session-run"),
    path("sessions/<uuid:session_id>/", views.SessionDetailView.as_view(), name="agent-session"),
    path("sessions/<uuid:session_id>/execute/", views.SessionExecuteView.as_view(), name="agent-session-execute"),
    path("sessions/<uuid:session_id>/pause/", views.SessionPauseView.as_view(), name="agent-session-pause"),
    path("sessions/<uuid:session_id>/resume/", views.SessionResumeView.as_view(), name="agent-session-resume"),
    path("sessions/<uuid:session_id>/cancel/", views.SessionCancelView.as_view(), name="agent-session-cancel"),
    path("sessions/<uuid:session_id>/answer/", views.SessionAnswerView.as_view(), name="agent-session-answer"),
    path(
        "sessions/<uuid:session_id>/approve/", views_policy.SessionApproveView.as_view(), name="agent-session-approve"
    ),
    path(
        "sessions/<uuid:session_id>/autonomy/",
        views_policy.SessionAutonomyView.as_view(),
        name="agent-session-autonomy",
    ),
    path("profiles/", views_profiles.ProfileListView.as_view(), name="agent-profiles"),
    path("rules/", views_policy.RuleListView.as_view(), name="policy-rules"),
    path("rules/<uuid:rule_id>/", views_policy.RuleDetailView.as_view(), name="policy-rule"),
    path("sessions/<uuid:session_id>/merge/", views.SessionMergeView.as_view(), name="agent-session-merge"),
    path("sessions/<uuid:session_id>/rebase/", views.SessionRebaseView.as_view(), name="agent-session-rebase"),
    path("sessions/<uuid:session_id>/discard/", views.SessionDiscardView.as_view(), name="agent-session-discard"),
    path("sessions/<uuid:session_id>/progress/", views.SessionProgressView.as_view(), name="agent-session-progress"),
    path("sessions/<uuid:session_id>/events/", views.SessionEventsView.as_view(), name="agent-session-events"),
    path("sessions/<uuid:session_id>/diff/", views.SessionDiffView.as_view(), name="agent-session-diff"),
    path(
        "sessions/<uuid:session_id>/report/",
        views_publishing.SessionReportView.as_view(),
        name="agent-session-report",
    ),
    path(
        "sessions/<uuid:session_id>/publish/",
        views_publishing.SessionPublishView.as_view(),
        name="agent-session-publish",
    ),
    path("sessions/<uuid:session_id>/patch/", views.SessionPatchView.as_view(), name="agent-session-patch"),
    path(
        "sessions/<uuid:session_id>/messages/",
        views_conversation.SessionMessagesView.as_view(),
        name="agent-session-messages",
    ),
    path("sessions/<uuid:session_id>/steer/", views_control.SessionSteerView.as_view(), name="agent-session-steer"),
    path("sessions/<uuid:session_id>/steps/", views_control.SessionStepsView.as_view(), name="agent-session-steps"),
    path("sessions/<uuid:session_id>/rewind/", views_control.SessionRewindView.as_view(), name="agent-session-rewind"),
    path("attachments/", views_conversation.AttachmentListView.as_view(), name="agent-attachments"),
    path(
        "attachments/<uuid:attachment_id>/",
        views_conversation.AttachmentDetailView.as_view(),
        name="agent-attachment",
    ),
    path("sessions/<uuid:session_id>/bundle/", views.SessionBundleView.as_view(), name="agent-session-bundle"),
]
