"""Shapes of projects and memberships."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.projects.agent_settings import Review
from apps.projects.autonomy import Autonomy
from apps.projects.models import (
    MAX_LANES,
    FetchState,
    ForgeKind,
    Membership,
    Project,
    ProjectSecret,
    RepositorySource,
    Role,
)
from apps.projects.repository_notices import NOTICE_KINDS
from apps.projects.selectors import source_get
from apps.projects.sources import HostKey, host_keys

_COMMAND_LENGTH = 10_000
#: They go into every conversation of every session of the project.
INSTRUCTIONS_LENGTH = 20_000
_HOSTS = 50


_AUTONOMY_HELP = "What agents may do without asking, unless a session says otherwise; empty: what the server says."
_REVIEW_HELP = "Which changes are reviewed, unless a session says otherwise; empty: what the server says."
_AGENTS_HELP = (
    "What is different about its agents, by role (planner, coder, reviewer, researcher): {instructions, tools_off, "
    "steps, tokens, seconds}, for the reviewer threshold and rounds besides; set whole."
)


class HostKeySerializer(serializers.Serializer[HostKey]):
    host = serializers.CharField()
    type = serializers.CharField()
    fingerprint = serializers.CharField()


class FetchProgressSerializer(serializers.Serializer[Any]):
    phase = serializers.CharField()
    percent = serializers.IntegerField(allow_null=True)
    received = serializers.CharField(help_text="How much has come, in git's words.")


class FetchReasonSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    next_step = serializers.CharField()


class SourceSerializer(serializers.ModelSerializer[RepositorySource]):
    has_token = serializers.SerializerMethodField()
    has_deploy_key = serializers.SerializerMethodField()
    host_keys = serializers.SerializerMethodField()
    state = serializers.ChoiceField(choices=FetchState.choices, source="fetch_state", read_only=True)
    progress = FetchProgressSerializer(source="fetch_progress", allow_null=True, read_only=True)
    reason = FetchReasonSerializer(source="fetch_reason", allow_null=True, read_only=True)

    class Meta:
        model = RepositorySource
        fields: ClassVar = [
            "url",
            "branch",
            "username",
            "has_token",
            "has_deploy_key",
            "host_keys",
            "sync_minutes",
            "state",
            "progress",
            "reason",
            "attempted_at",
            "synced_at",
        ]
        read_only_fields = fields

    def get_has_token(self, source: RepositorySource) -> bool:
        return bool(source.token)

    def get_has_deploy_key(self, source: RepositorySource) -> bool:
        return bool(source.deploy_key)

    @extend_schema_field(HostKeySerializer(many=True))
    def get_host_keys(self, source: RepositorySource) -> list[Any]:
        return [HostKeySerializer(key).data for key in host_keys(source.known_hosts)]


class SecretSerializer(serializers.ModelSerializer[ProjectSecret]):
    class Meta:
        model = ProjectSecret
        fields: ClassVar = ["name", "created_at", "updated_at"]
        read_only_fields = fields


class SecretWriteSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100, help_text="The variable that commands get it in.")
    value = serializers.CharField(
        max_length=32_768, trim_whitespace=False, write_only=True, help_text="At least 8 characters; never shown again."
    )


class NoticeSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=NOTICE_KINDS)
    path = serializers.CharField()
    message = serializers.CharField()


class ProjectSerializer(serializers.ModelSerializer[Project]):
    role = serializers.ChoiceField(choices=Role.choices, read_only=True, help_text="Yours.")
    check_commands = serializers.ListField(child=serializers.CharField(), read_only=True)
    network_hosts = serializers.ListField(child=serializers.CharField(), read_only=True)
    repository_notices = NoticeSerializer(
        many=True, read_only=True, help_text="What the repository lacks, such as files of Git LFS."
    )
    source = serializers.SerializerMethodField(  # type: ignore[assignment]  # a field of this name is no attribute
        help_text="Where the repository is fetched from; null: from nowhere."
    )

    autonomy = serializers.CharField(
        read_only=True, allow_blank=True, help_text="observe, ask, auto-edit or auto; empty: what the server says."
    )
    review = serializers.CharField(
        read_only=True, allow_blank=True, help_text="auto, always or never; empty: what the server says."
    )
    agents = serializers.DictField(read_only=True, help_text=_AGENTS_HELP)

    class Meta:
        model = Project
        fields: ClassVar = [
            "id",
            "name",
            "description",
            "repository_state",
            "repository_notices",
            "source",
            "default_branch",
            "head_commit",
            "setup_command",
            "check_commands",
            "network_hosts",
            "subfolder",
            "autonomy",
            "review",
            "agents",
            "instructions",
            "lanes",
            "role",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    @extend_schema_field({"oneOf": [{"$ref": "#/components/schemas/Source"}, {"type": "null"}]})
    def get_source(self, project: Project) -> Any:
        source = source_get(project)
        return None if source is None else SourceSerializer(source).data


_LANES_HELP = "Tasks of a session that may be worked on side by side; null: what the server says."


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
    autonomy = serializers.ChoiceField(
        choices=Autonomy.choices, required=False, allow_blank=True, default="", help_text=_AUTONOMY_HELP
    )
    lanes = serializers.IntegerField(
        min_value=1, max_value=MAX_LANES, required=False, allow_null=True, default=None, help_text=_LANES_HELP
    )
    review = serializers.ChoiceField(
        choices=Review.choices, required=False, allow_blank=True, default="", help_text=_REVIEW_HELP
    )
    agents = serializers.DictField(required=False, default=dict, help_text=_AGENTS_HELP)
    instructions = serializers.CharField(
        max_length=INSTRUCTIONS_LENGTH,
        required=False,
        allow_blank=True,
        default="",
        help_text="What is said to every agent of the project's sessions; empty: nothing.",
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
        help_text="The branch to work on; empty: the one that is checked out at repository_path, or the source's.",
    )
    repository_url = serializers.CharField(
        max_length=2000,
        required=False,
        allow_blank=True,
        default="",
        help_text="Where the repository is fetched from: https://…, ssh://… or git@HOST:PATH.",
    )
    username = serializers.CharField(max_length=255, required=False, allow_blank=True)
    token = serializers.CharField(max_length=10_000, required=False, allow_blank=True, write_only=True)
    deploy_key = serializers.CharField(
        max_length=20_000, required=False, allow_blank=True, write_only=True, trim_whitespace=False
    )
    known_hosts = serializers.CharField(max_length=20_000, required=False, allow_blank=True)
    sync_minutes = serializers.IntegerField(min_value=0, max_value=525_600, required=False)


class SourceWriteSerializer(serializers.Serializer[Any]):
    """What is not sent is left as it is; empty text takes it away."""

    url = serializers.CharField(
        max_length=2000, required=False, help_text="https://…, ssh://… or git@HOST:PATH, without credentials."
    )
    branch = serializers.CharField(
        max_length=255, required=False, allow_blank=True, help_text="Empty: the one that the source's HEAD names."
    )
    username = serializers.CharField(
        max_length=255, required=False, allow_blank=True, help_text="Whose the token is, where the host wants to know."
    )
    token = serializers.CharField(
        max_length=10_000, required=False, allow_blank=True, write_only=True, help_text="For https; never shown."
    )
    deploy_key = serializers.CharField(
        max_length=20_000,
        required=False,
        allow_blank=True,
        write_only=True,
        trim_whitespace=False,
        help_text="For ssh: a private key without a passphrase; never shown.",
    )
    known_hosts = serializers.CharField(
        max_length=20_000,
        required=False,
        allow_blank=True,
        help_text="Keys of an ssh host; empty: the first one that is seen is believed.",
    )
    sync_minutes = serializers.IntegerField(
        min_value=0,
        max_value=525_600,
        required=False,
        help_text="A session's start brings a repository up to date that is older; 0: never.",
    )


class ForgeSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(allow_blank=True, help_text="As it was set; empty: told from the source's address.")
    api_url = serializers.CharField(allow_blank=True, help_text="As it was set; empty: told from the source's address.")
    has_token = serializers.BooleanField(help_text="A token of its own, for where it stands now.")
    effective_kind = serializers.CharField(allow_blank=True, help_text="What is used; empty: see problem.")
    effective_api_url = serializers.CharField(allow_blank=True)
    repository = serializers.CharField(allow_blank=True, help_text="What it is called there.")
    token_from = serializers.CharField(
        allow_blank=True, help_text="project: its own token; source: the one that the repository is fetched with."
    )
    problem = serializers.CharField(allow_blank=True, help_text="Why no pull request can be opened; empty: none.")
    next_step = serializers.CharField(allow_blank=True)


class ForgeWriteSerializer(serializers.Serializer[Any]):
    """Set whole, but for the token, which is left as it is where none is sent."""

    kind = serializers.ChoiceField(choices=ForgeKind.choices, required=False, allow_blank=True, default="")
    api_url = serializers.CharField(
        max_length=2000,
        required=False,
        allow_blank=True,
        default="",
        help_text="https://HOST/api/v3 (GitHub Enterprise), /api/v4 (GitLab), /api/v1 (Gitea); empty: told.",
    )
    token = serializers.CharField(
        max_length=10_000,
        required=False,
        allow_blank=True,
        write_only=True,
        help_text="Empty: forget it. Never shown, and gone with another host.",
    )


class SyncSerializer(serializers.Serializer[Any]):
    force = serializers.BooleanField(
        default=False, help_text="Take the source's branches also where that gives up commits that are here."
    )


class BranchSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    commit = serializers.CharField()
    default = serializers.BooleanField()


class ArchiveQuerySerializer(serializers.Serializer[Any]):
    message = serializers.CharField(
        max_length=10_000, required=False, allow_blank=True, default="", help_text="Of the commit."
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
    autonomy = serializers.ChoiceField(
        choices=Autonomy.choices, required=False, allow_blank=True, help_text=_AUTONOMY_HELP
    )
    review = serializers.ChoiceField(choices=Review.choices, required=False, allow_blank=True, help_text=_REVIEW_HELP)
    agents = serializers.DictField(required=False, help_text=_AGENTS_HELP)
    instructions = serializers.CharField(max_length=INSTRUCTIONS_LENGTH, required=False, allow_blank=True)
    lanes = serializers.IntegerField(
        min_value=1, max_value=MAX_LANES, required=False, allow_null=True, help_text=_LANES_HELP
    )
    default_branch = serializers.CharField(
        max_length=255, required=False, help_text="The branch that sessions start from; it has to be there."
    )

    def validate_lanes(self, lanes: int | None) -> int:
        return lanes or 0


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
