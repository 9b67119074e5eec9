"""Accounts: registering, signing in, changing."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.authentication.models import User
from apps.authentication.services.invites import invite_redeem
from apps.authentication.services.tokens import token_families_revoke, token_pair_create
from apps.authentication.types import TokenPair
from apps.core.errors import Conflict, InvalidInput, NotAuthenticated, PermissionDenied
from apps.core.rate_limit import rate_limit_clear, rate_limit_take

#: Attempts to sign in: (limit name, attempts, seconds). From one address to one account; to one account from
#: everywhere; from one address to all accounts. The second is wide, so that a stranger can't lock an account cheaply.
LOGIN_PAIR = ("login", 10, 300)
LOGIN_ACCOUNT = ("login-account", 100, 3600)
LOGIN_ADDRESS = ("login-address", 50, 300)
REGISTER_ADDRESS = ("register-address", 20, 3600)


class RegistrationClosed(PermissionDenied):
    """Nobody, or only the invited, may register here."""

    code = "registration_closed"


class LoginFailed(NotAuthenticated):
    """The address and the password don't belong together; which of them is wrong is not said."""

    code = "login_failed"


class PasswordUnfit(InvalidInput):
    """The password is too easy to guess."""

    code = "password_unfit"


def user_register(*, email: str, password: str, name: str, invite: str, address: str) -> TokenPair:
    """Make an account, as ARCHON_REGISTRATION allows, and sign it in.

    Raises RegistrationClosed, InviteInvalid, PasswordUnfit, Conflict (the address is taken) or LimitReached.
    """
    mode = settings.ARCHON_REGISTRATION
    if mode not in ("open", "invite"):
        raise RegistrationClosed("Registration is closed here.", next_step="ask an administrator for an account")
    if mode == "invite" and not invite:
        raise RegistrationClosed("Registration is by invitation.", next_step="send the token of your invite")
    _take(REGISTER_ADDRESS, address)
    email = email_normalize(email)
    password_check(password=password, user=User(email=email, name=name))
    try:
        with transaction.atomic():
            user = User.objects.create_user(email, password, name=name)
            if mode == "invite":
                invite_redeem(token=invite, user=user)
            return token_pair_create(user=user)
    except IntegrityError as error:
        raise Conflict("There is an account with this address already.", next_step="sign in") from error


def user_login(*, email: str, password: str, address: str) -> TokenPair:
    """Sign in; costs the same for an unknown address as for a wrong password. Raises LoginFailed or LimitReached."""
    email = email_normalize(email)
    pair = f"{email} {address}"
    _take(LOGIN_ADDRESS, address)
    _take(LOGIN_PAIR, pair)
    _take(LOGIN_ACCOUNT, email)
    user = User.objects.filter(email=email).first()
    if user is None:
        # Hash all the same, so that the time doesn't tell which addresses have accounts.
        User().set_password(password)
    if user is None or not user.check_password(password) or not user.is_active:
        raise LoginFailed("The e-mail address or the password is wrong.", next_step="check both and try again")
    rate_limit_clear(name=LOGIN_PAIR[0], subject=pair)
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])
    return token_pair_create(user=user)


def user_update(*, user: User, name: str | None = None, preferences: str | None = None) -> User:
    """Change what is given and leave the rest."""
    given = {field: value for field, value in (("name", name), ("preferences", preferences)) if value is not None}
    for field, value in given.items():
        setattr(user, field, value)
    user.save(update_fields=[*given, "updated_at"])
    return user


def user_password_change(*, user: User, current: str, new: str, session_id: uuid.UUID) -> None:
    """Set another password and end every sign-in but the given one. Raises LoginFailed, PasswordUnfit, LimitReached."""
    _take(LOGIN_ACCOUNT, user.email)
    if not user.check_password(current):
        raise InvalidInput("The current password is wrong.", next_step="send your current password as current_password")
    password_check(password=new, user=user)
    with transaction.atomic():
        user.set_password(new)
        user.save(update_fields=["password", "updated_at"])
        token_families_revoke(user=user, except_id=session_id)


def local_user_get_or_create() -> User:
    """The account of whoever runs the server on their own machine; it has no password."""
    user = User.objects.filter(email="local@localhost").first()
    return user if user is not None else User.objects.create_user("local@localhost", None, name="Local user")


def password_check(*, password: str, user: User) -> None:
    """Raises PasswordUnfit with every reason against the password."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise PasswordUnfit(" ".join(error.messages), next_step="choose a longer and less common one") from error


def email_normalize(email: str) -> str:
    return email.strip().lower()


def _take(limit: tuple[str, int, int], subject: str) -> None:
    name, attempts, seconds = limit
    rate_limit_take(name=name, subject=subject, limit=attempts, seconds=seconds)
