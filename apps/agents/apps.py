"""Django's record of the app."""

from __future__ import annotations

from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "apps.agents"

    def ready(self) -> None:
        """Projects may take tools away from agents; the app that has the tools says which."""
        from apps.projects.agent_settings import agent_tools_known

        agent_tools_known(_tools_that_can_go)


def _tools_that_can_go() -> dict[str, tuple[str, ...]]:
    # Not before it is asked: most processes that load the app write no project.
    from apps.agents.tools.catalogue import tools_that_can_go

    return tools_that_can_go()
