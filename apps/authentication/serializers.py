"""Shapes of accounts, tokens, keys and invites."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apps.authentication.models import ApiKey, Invite, User

#: Longer ones only cost time to hash.
_PASSWORD_LENGTH = 256
#: It goes into every conversation of every session that the person starts.
PREFERENCES_LENGTH = 10_000


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields: ClassVar = ["id", "email", "name", "is_staff", "created_at"]
        read_only_fields = fields


class MeSerializer(UserSerializer):
    class Meta(UserSerializer.Meta):
        fields: ClassVar = [*UserSerializer.Meta.fields, "preferences"]
        read_only_fields = fields


class RegisterSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=_PASSWORD_LENGTH, trim_whitespace=False, write_only=True)
    name = serializers.CharField(max_length=150, required=False, allow_blank=True, default="")
    invite = serializers.CharField(
        max_length=100,
        required=False,
        allow_blank=True,
        default="",
        write_only=True,
        help_text="The token of an invite, where registration is by invitation.",
    )


class LoginSerializer(serializers.Serializer[Any]):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=_PASSWORD_LENGTH, trim_whitespace=False, write_only=True)


class RefreshSerializer(serializers.Serializer[Any]):
    refresh = serializers.CharField(max_length=4096, write_only=True)


class TokenPairSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Goes into `Authorization: Bearer`.")
    refresh = serializers.CharField(help_text="Good for one /api/auth/refresh/.")
    user = UserSerializer()


class ProfileSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=150, required=False, allow_blank=True)
    preferences = serializers.CharField(
        max_length=PREFERENCES_LENGTH,
        required=False,
        allow_blank=True,
        help_text="What you say to every agent of the sessions that you start; empty: nothing.",
    )


class PasswordChangeSerializer(serializers.Serializer[Any]):
    current_password = serializers.CharField(max_length=_PASSWORD_LENGTH, trim_whitespace=False, write_only=True)
    new_password = serializers.CharField(max_length=_PASSWORD_LENGTH, trim_whitespace=False, write_only=True)


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    class Meta:
        model = ApiKey
        fields: ClassVar = ["id", "name", "prefix", "expires_at", "last_used_at", "created_at"]
        read_only_fields = fields


class ApiKeyCreateSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class ApiKeyCreatedSerializer(ApiKeySerializer):
    key = serializers.CharField(read_only=True, help_text="The key itself; it is shown this once.")

    class Meta(ApiKeySerializer.Meta):
        fields: ClassVar = [*ApiKeySerializer.Meta.fields, "key"]
        read_only_fields = fields


class TicketSerializer(serializers.Serializer[Any]):
    ticket = serializers.CharField(help_text="Opens one WebSocket, as `?ticket=`.")
    expires_in = serializers.IntegerField(help_text="Seconds.")


class InviteSerializer(serializers.ModelSerializer[Invite]):
    class Meta:
        model = Invite
        fields: ClassVar = ["id", "email", "created_by", "expires_at", "used_at", "used_by", "created_at"]
        read_only_fields = fields


class InviteCreateSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField(
        required=False, allow_blank=True, default="", help_text="The only address that may use it; empty: any."
    )
    days = serializers.IntegerField(required=False, default=7, min_value=1, max_value=365)


class InviteCreatedSerializer(InviteSerializer):
    token = serializers.CharField(read_only=True, help_text="The invite's token; it is shown this once.")

    class Meta(InviteSerializer.Meta):
        fields: ClassVar = [*InviteSerializer.Meta.fields, "token"]
        read_only_fields = fields
