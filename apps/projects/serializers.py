"""Shapes of projects and memberships."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apps.projects.models import Membership, Project, Role

_COMMAND_LENGTH = 10_000
_HOSTS = 50


class ProjectSerializer(serializers.ModelSerializer[Project]):
    role = serializers.ChoiceField(choices=Role.choices, read_only=True, help_text="Yours.")
    check_commands = serializers.ListField(child=serializers.CharField(), read_only=True)
    network_hosts = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Project
        fields: ClassVar = [
            "id",
            "name",
            "description",
            "repository_state",
            "default_branch",
            "head_commit",
            "setup_command",
            "check_commands",
            "network_hosts",
            "subfolder",
            "role",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


class ProjectWriteSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=20_000, required=False, allow_blank=True, default="")
    setup_command = serializers.CharField(
        max_length=_COMMAND_LENGTH,
        required=False,
        allow_blank=True,
        default="",
        help_text="Installs the dependencies; empty: found from the lock files.",
    )
    check_commands = serializers.ListField(
        child=serializers.CharField(max_length=_COMMAND_LENGTH),
        max_length=20,
        required=False,
        default=list,
        help_text="Tell whether the code works; empty: found from the repository.",
    )
    network_hosts = serializers.ListField(
        child=serializers.CharField(max_length=300),
        max_length=_HOSTS,
        required=False,
        default=list,
        help_text="Hosts that agents may read web pages from: HOST, HOST:PORT or *.DOMAIN; empty: none.",
    )
    subfolder = serializers.CharField(
        max_length=1000,
        required=False,
        allow_blank=True,
        default="",
        help_text="The folder of a larger repository that the work is about; empty: all of it.",
    )


class ProjectCreateSerializer(ProjectWriteSerializer):
    repository_path = serializers.CharField(
        max_length=4096,
        required=False,
        allow_blank=True,
        default="",
        help_text="A repository on the server, under a folder that the operator allows (ARCHON_REPOSITORY_ROOTS).",
    )
    branch = serializers.CharField(
        max_length=255,
        required=False,
        allow_blank=True,
        default="",
        help_text="The branch to work on; empty: the one that is checked out at repository_path.",
    )


class ProjectPatchSerializer(ProjectWriteSerializer):
    """Without defaults: what is not sent is left as it is."""

    name = serializers.CharField(max_length=200, required=False)
    description = serializers.CharField(max_length=20_000, required=False, allow_blank=True)
    setup_command = serializers.CharField(max_length=_COMMAND_LENGTH, required=False, allow_blank=True)
    check_commands = serializers.ListField(
        child=serializers.CharField(max_length=_COMMAND_LENGTH), max_length=20, required=False
    )
    network_hosts = serializers.ListField(
        child=serializers.CharField(max_length=300), max_length=_HOSTS, required=False
    )
    subfolder = serializers.CharField(max_length=1000, required=False, allow_blank=True)


class BundleQuerySerializer(serializers.Serializer[Any]):
    branch = serializers.CharField(
        max_length=255,
        required=False,
        allow_blank=True,
        default="",
        help_text="The branch to work on; without it the one that the bundle's HEAD names.",
    )


class MembershipSerializer(serializers.ModelSerializer[Membership]):
    user_id = serializers.UUIDField(read_only=True)
    email = serializers.EmailField(source="user.email", read_only=True)
    name = serializers.CharField(source="user.name", read_only=True)

    class Meta:
        model = Membership
        fields: ClassVar = ["user_id", "email", "name", "role", "created_at"]
        read_only_fields = fields


class MemberAddSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices, default=Role.MEMBER)


class MemberUpdateSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=Role.choices)
