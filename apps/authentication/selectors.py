"""Reads of the app."""

from __future__ import annotations

from django.db.models import QuerySet

from apps.authentication.models import ApiKey, Invite, User


def user_get_by_email(*, email: str) -> User | None:
    return User.objects.filter(email=email.strip().lower(), is_active=True).first()


def api_key_list(*, user: User) -> QuerySet[ApiKey]:
    """The user's own keys, newest first."""
    return ApiKey.objects.filter(user=user)


def invite_list() -> QuerySet[Invite]:
    """All invites, newest first."""
    return Invite.objects.all()
