"""The URL table of the whole API; a prefix here says nothing about which app owns the view."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
