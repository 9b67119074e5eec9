"""The URL table of the whole API; a prefix here says nothing about which app owns the view."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from apps.core.static_files import static_file

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("api/", RedirectView.as_view(pattern_name="docs")),
    path("static/<path:path>", static_file),
    path("api/", include("apps.core.urls")),
    path("api/auth/", include("apps.authentication.urls")),
    path("api/projects/", include("apps.projects.urls")),
    path("api/agents/", include("apps.agents.urls")),
    path("api/", include("apps.usage.urls")),
    path("api/planning/", include("apps.agents.urls_planning")),
    path("api/planning/", include("apps.planning.urls")),
    path("api/planning/", include("apps.agents.urls_plans")),
    path("api/vector-store/", include("apps.vector_store.urls")),
    path("api/", include("apps.context.urls")),
]
