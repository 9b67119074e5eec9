"""How Supabase is reached: configuration alone, without its library. The ORM owns every row, wherever Postgres runs."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings


class SupabaseConfigError(Exception):
    """The settings for Supabase contradict each other."""


@dataclass(frozen=True)
class SupabaseConfig:
    """A Supabase project. ``service_key`` passes its row policies and never leaves the server."""

    url: str
    anon_key: str
    service_key: str

    def __repr__(self) -> str:
        return f"SupabaseConfig(url={self.url!r})"


def supabase_config() -> SupabaseConfig | None:
    """What the settings say, or None where no project is named. Raises :class:`SupabaseConfigError`."""
    if not settings.SUPABASE_URL:
        return None
    if not settings.SUPABASE_URL.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise SupabaseConfigError("SUPABASE_URL has to be an https address, like https://PROJECT.supabase.co")
    if not (settings.SUPABASE_KEY or settings.SUPABASE_SERVICE_KEY):
        raise SupabaseConfigError("SUPABASE_URL is set, but neither SUPABASE_KEY nor SUPABASE_SERVICE_KEY is")
    return SupabaseConfig(
        url=settings.SUPABASE_URL.rstrip("/"),
        anon_key=settings.SUPABASE_KEY,
        service_key=settings.SUPABASE_SERVICE_KEY,
    )
