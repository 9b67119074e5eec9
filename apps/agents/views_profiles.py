"""What agents are, by role: prompt, tools, limits."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents.services.agent_profiles import AgentProfile, profiles_of
from apps.agents.tools.catalogue import HANDING_OVER, TOOLS_BY_ROLE, tools_that_can_go
from apps.agents.types import Severity
from apps.authentication.bearer import request_user
from apps.projects.selectors import project_get_for_user
from apps.usage.choices import ROLES


class ProfileQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False, help_text="With what this project says of its agents.")


class ProfileSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=ROLES)
    prompt = serializers.CharField(help_text="The file in apps/agents/prompts.")
    instructions = serializers.CharField(allow_blank=True, help_text="What the project adds to it.")
    tools = serializers.ListField(
        child=serializers.CharField(), help_text="By which forms it edits, a coder has one set of those."
    )
    tools_off = serializers.ListField(child=serializers.CharField(), help_text="Those that the project takes away.")
    steps = serializers.IntegerField(help_text="Of one execution: replies of its model.")
    tokens = serializers.IntegerField(help_text="Of one execution: in and out.")
    seconds = serializers.IntegerField(help_text="Of one execution: at work.")
    threshold = serializers.ChoiceField(
        choices=Severity.choices, required=False, help_text="Of the reviewer: findings from here on go back."
    )
    rounds = serializers.IntegerField(required=False, help_text="Of the reviewer: so often, before a person is asked.")


class ProfileListView(APIView):
    @extend_schema(
        operation_id="agents_profiles",
        tags=["agents"],
        parameters=[ProfileQuerySerializer],
        responses=ProfileSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """What agents of each role are, by themselves or in a project; what they call is told by `models/`."""
        query = ProfileQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        said: dict[str, Any] = {}
        if "project" in query.validated_data:
            user = request_user(request)
            said = project_get_for_user(user=user, project_id=query.validated_data["project"]).agents
        return Response(ProfileSerializer([_shown(each) for each in profiles_of(said).values()], many=True).data)


def _shown(profile: AgentProfile) -> dict[str, Any]:
    ends = [tool.name for tool in HANDING_OVER if tool in TOOLS_BY_ROLE[profile.role]]
    names = [*tools_that_can_go()[profile.role], *ends]
    shown = {
        "role": profile.role,
        "prompt": f"{profile.prompt}.md",
        "instructions": profile.instructions,
        "tools": [name for name in names if name not in profile.tools_off],
        "tools_off": sorted(profile.tools_off),
        "steps": profile.steps,
        "tokens": profile.tokens,
        "seconds": profile.seconds,
    }
    if profile.role == "reviewer":
        shown |= {"threshold": profile.threshold, "rounds": profile.rounds}
    return shown
