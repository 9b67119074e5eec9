"""Invites: who may register where registration is by invitation."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from apps.authentication.models import Invite, User
from apps.authentication.secret import secret_hash, secret_make
from apps.authentication.types import Secret
from apps.core.errors import InvalidInput


class InviteInvalid(InvalidInput):
    """The invite is unknown, used, expired, or for another address."""

    code = "invite_invalid"


def invite_create(*, created_by: User | None, email: str = "", days: int = 7) -> Secret[Invite]:
    """An invite for one registration within ``days``; its token is returned here and nowhere else."""
    token = secret_make(40)
    invite = Invite.objects.create(
        token_hash=secret_hash(token),
        email=email.strip().lower(),
        created_by=created_by,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return Secret(invite, token)


def invite_redeem(*, token: str, user: User) -> None:
    """Use the invite up for this user. Of two at once one wins; the other, and any misuse, is InviteInvalid."""
    now = timezone.now()
    used = (
        Invite.objects.filter(token_hash=secret_hash(token), used_at=None, expires_at__gt=now)
        .filter(Q(email="") | Q(email=user.email))
        .update(used_at=now, used_by=user)
    )
    if not used:
        raise InviteInvalid("The invite is not valid for this address.", next_step="ask an administrator for a new one")
