"""Accounts, tokens, API keys, tickets and invites over HTTP."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication import selectors, serializers
from apps.authentication.bearer import request_address, request_credentials, request_session, request_user
from apps.authentication.services import accounts, api_keys, credentials, invites, tokens
from apps.core.pagination import PagedView


class _PublicView(APIView):
    """For whoever has no token yet; one that comes along is not looked at."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class RegisterView(_PublicView):
    @extend_schema(
        operation_id="auth_register",
        tags=["auth"],
        request=serializers.RegisterSerializer,
        responses={201: serializers.TokenPairSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make an account and sign it in, where registration is open or with an invite."""
        data = serializers.RegisterSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        pair = accounts.user_register(**data.validated_data, address=request_address(request))
        return Response(serializers.TokenPairSerializer(pair).data, status=201)


class LoginView(_PublicView):
    @extend_schema(
        operation_id="auth_login",
        tags=["auth"],
        request=serializers.LoginSerializer,
        responses={200: serializers.TokenPairSerializer},
    )
    def post(self, request: Request) -> Response:
        """Sign in by e-mail address and password."""
        data = serializers.LoginSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        pair = accounts.user_login(**data.validated_data, address=request_address(request))
        return Response(serializers.TokenPairSerializer(pair).data)


class RefreshView(_PublicView):
    @extend_schema(
        operation_id="auth_refresh",
        tags=["auth"],
        request=serializers.RefreshSerializer,
        responses={200: serializers.TokenPairSerializer},
    )
    def post(self, request: Request) -> Response:
        """A new pair of tokens for a refresh token, which is used up; one that comes twice ends the sign-in."""
        data = serializers.RefreshSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        pair = tokens.token_pair_refresh(**data.validated_data)
        return Response(serializers.TokenPairSerializer(pair).data)


class LogoutView(_PublicView):
    @extend_schema(
        operation_id="auth_logout", tags=["auth"], request=serializers.RefreshSerializer, responses={204: None}
    )
    def post(self, request: Request) -> Response:
        """End the sign-in that a refresh token belongs to; its access tokens stop working at once."""
        data = serializers.RefreshSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        tokens.token_family_revoke_by_refresh(**data.validated_data)
        return Response(status=204)


class MeView(APIView):
    @extend_schema(operation_id="auth_me", tags=["auth"], responses=serializers.MeSerializer)
    def get(self, request: Request) -> Response:
        """Who you are, and what you say to your agents."""
        return Response(serializers.MeSerializer(request_user(request)).data)

    @extend_schema(
        operation_id="auth_me_update",
        tags=["auth"],
        request=serializers.ProfileSerializer,
        responses=serializers.MeSerializer,
    )
    def patch(self, request: Request) -> Response:
        """Change your name, or your preferences for agents, which hold for sessions from then on."""
        data = serializers.ProfileSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        user = accounts.user_update(user=request_user(request), **data.validated_data)
        return Response(serializers.MeSerializer(user).data)


class PasswordView(APIView):
    @extend_schema(
        operation_id="auth_password",
        tags=["auth"],
        request=serializers.PasswordChangeSerializer,
        responses={204: None},
    )
    def post(self, request: Request) -> Response:
        """Change your password; every other sign-in of yours ends."""
        session = request_session(request)
        data = serializers.PasswordChangeSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        accounts.user_password_change(
            user=session.user,
            current=data.validated_data["current_password"],
            new=data.validated_data["new_password"],
            session_id=session.source_id,
        )
        return Response(status=204)


class ApiKeyListView(PagedView):
    @extend_schema(operation_id="auth_keys_list", tags=["auth"], responses=serializers.ApiKeySerializer(many=True))
    def get(self, request: Request) -> Response:
        """Your API keys, without their values."""
        return self.page(selectors.api_key_list(user=request_user(request)), serializers.ApiKeySerializer)

    @extend_schema(
        operation_id="auth_keys_create",
        tags=["auth"],
        request=serializers.ApiKeyCreateSerializer,
        responses={201: serializers.ApiKeyCreatedSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make an API key; needs an access token, so that a leaked key can't make another."""
        session = request_session(request)
        data = serializers.ApiKeyCreateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        made = api_keys.api_key_create(user=session.user, **data.validated_data)
        return Response({**serializers.ApiKeySerializer(made.row).data, "key": made.value}, status=201)


class ApiKeyDetailView(APIView):
    @extend_schema(operation_id="auth_keys_delete", tags=["auth"], responses={204: None})
    def delete(self, request: Request, key_id: uuid.UUID) -> Response:
        """Revoke an API key; it stops working at once."""
        api_keys.api_key_delete(user=request_user(request), key_id=key_id)
        return Response(status=204)


class TicketView(APIView):
    @extend_schema(
        operation_id="auth_tickets_create", tags=["auth"], request=None, responses={201: serializers.TicketSerializer}
    )
    def post(self, request: Request) -> Response:
        """A one-use ticket for a WebSocket, for clients such as browsers that can't send a header there."""
        ticket = credentials.ticket_create(credentials=request_credentials(request))
        return Response({"ticket": ticket, "expires_in": credentials.TICKET_SECONDS}, status=201)


class InviteListView(PagedView):
    permission_classes = (IsAdminUser,)

    @extend_schema(operation_id="auth_invites_list", tags=["auth"], responses=serializers.InviteSerializer(many=True))
    def get(self, request: Request) -> Response:
        """All invites; for administrators."""
        return self.page(selectors.invite_list(), serializers.InviteSerializer)

    @extend_schema(
        operation_id="auth_invites_create",
        tags=["auth"],
        request=serializers.InviteCreateSerializer,
        responses={201: serializers.InviteCreatedSerializer},
    )
    def post(self, request: Request) -> Response:
        """Invite somebody; for administrators."""
        session = request_session(request)
        data = serializers.InviteCreateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        made = invites.invite_create(created_by=session.user, **data.validated_data)
        return Response({**serializers.InviteSerializer(made.row).data, "token": made.value}, status=201)
