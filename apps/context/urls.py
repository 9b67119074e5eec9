"""Addresses below ``/api/context/``, and the search below ``/api/vector-store/``."""

from __future__ import annotations

from django.urls import path

from apps.context import views, views_locating

urlpatterns = [
    path("context/state/", views.IndexStateView.as_view(), name="context-state"),
    path("context/index/", views.IndexView.as_view(), name="context-index"),
    path("context/index/<uuid:job_id>/", views.JobView.as_view(), name="context-job"),
    path("context/index/<uuid:job_id>/cancel/", views.JobCancelView.as_view(), name="context-job-cancel"),
    path("context/index/<uuid:job_id>/events/", views.JobEventsView.as_view(), name="context-job-events"),
    path("context/files/", views.FileListView.as_view(), name="context-files"),
    path("context/files/<str:file_id>/", views.FileDetailView.as_view(), name="context-file"),
    path("context/files/<str:file_id>/summary/", views.FileSummaryView.as_view(), name="context-file-summary"),
    path("context/overview/", views.OverviewView.as_view(), name="context-overview"),
    path("context/overview/graph.svg/", views.OverviewGraphView.as_view(), name="context-overview-graph"),
    path("context/locate/", views_locating.LocateView.as_view(), name="context-locate"),
    path("context/map/", views_locating.RepositoryMapView.as_view(), name="context-map"),
    path("context/duplicates/", views_locating.DuplicatesView.as_view(), name="context-duplicates"),
    path("context/pack/", views_locating.PackView.as_view(), name="context-pack"),
    path("vector-store/search/", views.SearchView.as_view(), name="vector-store-search"),
]
