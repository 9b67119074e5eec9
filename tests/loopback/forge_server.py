"""GitHub, GitLab and Gitea on loopback: their pull requests, each in its own words, over repositories that are there.

Made after their documentation: the paths, who may ask in which header, what is validated and in which order, what
status comes with it, how lists are filtered and cut into pages. Strict where they are: a member that a forge doesn't
know is refused, and told to the test in ``refused``; lenient where they are: GitLab opens a merge request into a branch
that isn't there, GitHub leaves out a filter that it can't read.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .json_server import Answer, Asked, JsonServer

_GITHUB_VERSION = "2022-11-28"
_BODY_LIMIT = 65_536
_DRAFT = {
    "gitlab": re.compile(r"^\s*(draft:|\[draft\]|\(draft\))", re.IGNORECASE),
    "gitea": re.compile(r"^\s*(wip:|\[wip\])", re.IGNORECASE),
}
_GITHUB_MEMBERS = {"title", "head", "head_repo", "base", "body", "maintainer_can_modify", "draft", "issue"}
_GITLAB_MEMBERS = {
    *("source_branch", "target_branch", "title", "description", "assignee_id", "assignee_ids", "reviewer_ids"),
    *("target_project_id", "labels", "milestone_id", "remove_source_branch", "squash", "allow_collaboration"),
}
_GITEA_MEMBERS = {
    *("head", "base", "title", "body", "assignee", "assignees", "milestone", "labels", "due_date", "reviewers"),
    "team_reviewers",
}
_GITEA_PAGE = 50


@dataclass
class PullRequest:
    number: int
    head: str
    base: str
    title: str
    body: str
    draft: bool = False
    state: str = "open"
    #: Whose branch it is from; another one: a fork's.
    repository: str = ""


@dataclass
class Repository:
    """A repository on the forge. ``folder`` is where git has it."""

    name: str
    folder: Path
    pulls: list[PullRequest] = field(default_factory=list)
    drafts: bool = True
    archived: bool = False
    #: Where it is by now, for one that was renamed.
    moved_to: str = ""

    def commit(self, branch: str) -> str:
        found = subprocess.run(
            ["git", "-c", "safe.directory=*", "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"],
            cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return found.stdout.strip()

    def ahead(self, base: str, head: str) -> int:
        counted = ["git", "-c", "safe.directory=*", "rev-list", "--count", f"{base}..{head}"]
        return int(subprocess.run(counted, cwd=self.folder, capture_output=True, text=True, check=True).stdout)

    def open_one(self, head: str, base: str) -> PullRequest | None:
        same = (pull for pull in self.pulls if pull.repository == self.name and pull.state == "open")
        return next((pull for pull in same if (pull.head, pull.base) == (head, base)), None)


class _Refused(Exception):
    def __init__(self, status: int, body: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(str(body))
        self.answer = Answer(status, body, headers)


class ForgeServer(JsonServer):
    """``kind``: whose words it speaks. ``token`` opens everything; ``weak_token`` reads and writes no pull request."""

    def __init__(self, kind: str, *, token: str) -> None:
        super().__init__()
        self.kind = kind
        self.token = token
        self.weak_token = f"{token}-weak"
        self.repositories: dict[str, Repository] = {}
        #: Answers that come before any other, one for each request.
        self.failures: list[Answer] = []
        #: Called with what has just been opened, before that is answered.
        self.opened: Callable[[PullRequest], None] = lambda pull: None
        self.page_size = 30

    @property
    def api_url(self) -> str:
        return self.url + {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}[self.kind]

    def repository_add(self, name: str, folder: Path) -> Repository:
        self.repositories[name] = Repository(name, folder)
        return self.repositories[name]

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            if self.failures:
                return self.failures.pop(0)
            try:
                answer = {"github": self._github, "gitlab": self._gitlab, "gitea": self._gitea}[self.kind](asked)
            except _Refused as refused:
                return refused.answer
        return answer

    # --- GitHub -------------------------------------------------------------------------------------------------------
    def _github(self, asked: Asked) -> Answer:
        if asked.headers.get("x-github-api-version") != _GITHUB_VERSION:
            self.refused.append("no version of the API is named")
        if "application/vnd.github" not in asked.headers.get("accept", ""):
            self.refused.append(f"it accepts {asked.headers.get('accept')}")
        if not asked.headers.get("user-agent"):
            raise _Refused(403, {"message": "Request forbidden by administrative rules."})
        given = asked.headers.get("authorization", "").removeprefix("Bearer ").removeprefix("token ")
        if given not in (self.token, self.weak_token):
            raise _Refused(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
        found = re.fullmatch(r"/api/v3/repos/([^/]+/[^/]+)/pulls(?:/(\d+))?", asked.path)
        repository = self.repositories.get(found[1]) if found else None
        if found is None or repository is None:
            raise _Refused(404, {"message": "Not Found", "status": "404"})
        if repository.moved_to:
            where = f"{self.url}/api/v3/repositories/{repository.moved_to}/pulls"
            raise _Refused(301, {"message": "Moved Permanently", "url": where}, (("Location", where),))
        if asked.method == "GET" and not found[2]:
            return self._github_list(asked, repository)
        if given == self.weak_token:
            raise _Refused(403, {"message": "Resource not accessible by personal access token", "status": "403"})
        if repository.archived:
            raise _Refused(403, {"message": "Repository was archived so is read-only."})
        if asked.method == "POST" and not found[2]:
            return Answer(201, self._github_shown(repository, self._github_open(asked.body, repository)))
        if asked.method == "PATCH" and found[2]:
            pull = self._numbered(repository, int(found[2]), {"message": "Not Found"})
            self._members(asked.body, {"title", "body", "state", "base", "maintainer_can_modify"})
            self._github_lengths(asked.body)
            pull.title, pull.body = asked.body.get("title", pull.title), asked.body.get("body", pull.body)
            return Answer(200, self._github_shown(repository, pull))
        raise _Refused(404, {"message": "Not Found"})

    def _github_list(self, asked: Asked, repository: Repository) -> Answer:
        query = {name: values[-1] for name, values in asked.query.items()}
        state, base, head = query.get("state", "open"), query.get("base"), query.get("head", "")
        owner, colon, ref = head.partition(":")
        found = [pull for pull in repository.pulls if state in ("all", pull.state) and base in (None, pull.base)]
        if colon:
            found = [pull for pull in found if (pull.repository.partition("/")[0], pull.head) == (owner, ref)]
        size = min(int(query.get("per_page", 30)), 100, self.page_size)
        shown = [self._github_shown(repository, pull) for pull in reversed(found)]
        return self._page(asked, shown, size, int(query.get("page", 1)))

    def _github_open(self, body: Any, repository: Repository) -> PullRequest:
        self._members(body, _GITHUB_MEMBERS)
        missing = [name for name in ("head", "base", "title") if not body.get(name)]
        if missing:
            raise self._github_invalid({"resource": "PullRequest", "code": "missing_field", "field": missing[0]})
        self._github_lengths(body)
        head = body["head"].rpartition(":")[2]
        for name, branch in (("base", body["base"]), ("head", head)):
            if not repository.commit(branch):
                raise self._github_invalid({"resource": "PullRequest", "field": name, "code": "invalid"})
        owner = repository.name.partition("/")[0]
        if repository.open_one(head, body["base"]):
            message = f"A pull request already exists for {owner}:{head}."
            raise self._github_invalid({"resource": "PullRequest", "code": "custom", "message": message})
        if not repository.ahead(body["base"], head):
            message = f"No commits between {body['base']} and {head}"
            raise self._github_invalid({"resource": "PullRequest", "code": "custom", "message": message})
        if body.get("draft") and not repository.drafts:
            raise _Refused(422, {"message": "Draft pull requests are not supported in this repository."})
        return self._open(
            repository, head, body["base"], body["title"], body.get("body") or "", bool(body.get("draft"))
        )  # fmt: skip

    def _github_lengths(self, body: dict[str, Any]) -> None:
        if len(body.get("body") or "") > _BODY_LIMIT:
            message = f"body is too long (maximum is {_BODY_LIMIT} characters)"
            raise self._github_invalid({"resource": "Issue", "code": "custom", "field": "body", "message": message})

    def _github_invalid(self, error: dict[str, str]) -> _Refused:
        return _Refused(422, {"message": "Validation Failed", "errors": [error], "status": "422"})

    def _github_shown(self, repository: Repository, pull: PullRequest) -> dict[str, Any]:
        address = f"{self.url}/{repository.name}/pull/{pull.number}"
        return {
            "id": 1000 + pull.number,
            "number": pull.number,
            "state": pull.state,
            "title": pull.title,
            "body": pull.body or None,
            "draft": pull.draft,
            "html_url": address,
            "url": f"{self.api_url}/repos/{repository.name}/pulls/{pull.number}",
            "head": {"ref": pull.head, "label": pull.head, "repo": {"full_name": pull.repository}},
            "base": {"ref": pull.base, "repo": {"full_name": repository.name}},
        }

    # --- GitLab -------------------------------------------------------------------------------------------------------
    def _gitlab(self, asked: Asked) -> Answer:
        given = asked.headers.get("private-token") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        if given not in (self.token, self.weak_token):
            raise _Refused(401, {"message": "401 Unauthorized"})
        # An encoded slash stays encoded: the project is one part of the path.
        found = re.fullmatch(r"/api/v4/projects/([^/]+)/merge_requests(?:/(\d+))?", asked.path)
        repository = self.repositories.get(unquote(found[1])) if found else None
        if found is None:
            raise _Refused(404, {"error": "404 Not Found"})
        if repository is None:
            raise _Refused(404, {"message": "404 Project Not Found"})
        if asked.method == "GET" and not found[2]:
            return self._gitlab_list(asked, repository)
        if given == self.weak_token:
            told = "The request requires higher privileges than provided by the access token."
            raise _Refused(403, {"error": "insufficient_scope", "error_description": told, "scope": "api"})
        if repository.archived:
            raise _Refused(403, {"message": "403 Forbidden"})
        if asked.method == "POST" and not found[2]:
            return Answer(201, self._gitlab_shown(repository, self._gitlab_open(asked.body, repository)))
        if asked.method == "PUT" and found[2]:
            pull = self._numbered(repository, int(found[2]), {"message": "404 Not found"})
            self._members(asked.body, {"title", "description", "target_branch", "state_event", "labels", "squash"})
            if not asked.body:
                raise _Refused(400, {"error": "assignee_id, … are missing, at least one parameter must be provided"})
            self._gitlab_lengths(asked.body)
            pull.title, pull.body = asked.body.get("title", pull.title), asked.body.get("description", pull.body)
            pull.draft = bool(_DRAFT["gitlab"].match(pull.title))
            return Answer(200, self._gitlab_shown(repository, pull))
        raise _Refused(405, {"error": "405 Not Allowed"})

    def _gitlab_list(self, asked: Asked, repository: Repository) -> Answer:
        query = {name: values[-1] for name, values in asked.query.items()}
        state = {"opened": "open"}.get(query.get("state", "all"), query.get("state", "all"))
        found = [
            pull
            for pull in repository.pulls
            if state in ("all", pull.state)
            and query.get("source_branch") in (None, pull.head)
            and query.get("target_branch") in (None, pull.base)
        ]
        size = min(int(query.get("per_page", 20)), 100, self.page_size)
        shown = [self._gitlab_shown(repository, pull) for pull in reversed(found)]
        return self._page(asked, shown, size, int(query.get("page", 1)))

    def _gitlab_open(self, body: Any, repository: Repository) -> PullRequest:
        self._members(body, _GITLAB_MEMBERS)
        missing = [name for name in ("title", "source_branch", "target_branch") if name not in body]
        if missing:
            raise _Refused(400, {"error": ", ".join(f"{name} is missing" for name in missing)})
        self._gitlab_lengths(body)
        head, base = body["source_branch"], body["target_branch"]
        if head == base:
            raise _Refused(422, {"message": ["You can't use same project/branch for source and target"]})
        if (there := repository.open_one(head, base)) is not None:
            told = f"Another open merge request already exists for this source branch: !{there.number}"
            raise _Refused(409, {"message": [told]})
        draft = bool(_DRAFT["gitlab"].match(body["title"]))
        return self._open(repository, head, base, body["title"], body.get("description") or "", draft)

    def _gitlab_lengths(self, body: dict[str, Any]) -> None:
        if len(body.get("title", "x")) > 255:
            raise _Refused(400, {"message": {"title": ["is too long (maximum is 255 characters)"]}})
        if not body.get("title", "x").strip():
            raise _Refused(400, {"message": {"title": ["can't be blank"]}})

    def _gitlab_shown(self, repository: Repository, pull: PullRequest) -> dict[str, Any]:
        return {
            "id": 1000 + pull.number,
            "iid": pull.number,
            "project_id": 7,
            "source_project_id": 7 if pull.repository == repository.name else 8,
            "target_project_id": 7,
            "state": "opened" if pull.state == "open" else pull.state,
            "title": pull.title,
            "description": pull.body,
            "draft": pull.draft,
            "source_branch": pull.head,
            "target_branch": pull.base,
            "web_url": f"{self.url}/{repository.name}/-/merge_requests/{pull.number}",
        }

    # --- Gitea --------------------------------------------------------------------------------------------------------
    def _gitea(self, asked: Asked) -> Answer:
        swagger = f"{self.url}/api/swagger"
        given = asked.headers.get("authorization", "").removeprefix("token ").removeprefix("Bearer ")
        if given not in (self.token, self.weak_token):
            raise _Refused(401, {"message": "invalid username, password or token", "url": swagger})
        found = re.fullmatch(r"/api/v1/repos/([^/]+/[^/]+)/pulls(?:/(\d+))?", asked.path)
        repository = self.repositories.get(found[1]) if found else None
        missing = {"message": "The target couldn't be found.", "url": swagger, "errors": []}
        if found is None or repository is None:
            raise _Refused(404, missing)
        if asked.method == "GET" and not found[2]:
            return self._gitea_list(asked, repository)
        if given == self.weak_token:
            told = "token does not have at least one of required scope(s), required=[write:repository]"
            raise _Refused(403, {"message": told, "url": swagger})
        if repository.archived:
            raise _Refused(423, {"message": "repo is archived", "url": swagger})
        if asked.method == "POST" and not found[2]:
            return Answer(201, self._gitea_shown(repository, self._gitea_open(asked.body, repository, missing)))
        if asked.method == "PATCH" and found[2]:
            pull = self._numbered(repository, int(found[2]), missing)
            self._members(asked.body, {"title", "body", "base", "state", "assignees", "labels", "milestone"})
            pull.title, pull.body = asked.body.get("title") or pull.title, asked.body.get("body", pull.body)
            pull.draft = bool(_DRAFT["gitea"].match(pull.title))
            # Sic.
            return Answer(201, self._gitea_shown(repository, pull))
        raise _Refused(405, {"message": "Method Not Allowed", "url": swagger})

    def _gitea_list(self, asked: Asked, repository: Repository) -> Answer:
        query = {name: values[-1] for name, values in asked.query.items()}
        state = query.get("state", "open")
        found = [pull for pull in repository.pulls if state in ("all", pull.state)]
        size = min(int(query.get("limit", 30)), _GITEA_PAGE, self.page_size)
        shown = [self._gitea_shown(repository, pull) for pull in reversed(found)]
        answer = self._page(asked, shown, size, int(query.get("page", 1)))
        return Answer(answer.status, answer.body, (*answer.headers, ("X-Total-Count", str(len(found)))))

    def _gitea_open(self, body: Any, repository: Repository, missing: dict[str, Any]) -> PullRequest:
        self._members(body, _GITEA_MEMBERS)
        head, base, title = body.get("head", ""), body.get("base", ""), body.get("title", "")
        if head == base:
            told = "Invalid PullRequest: There are no changes between the head and the base"
            raise _Refused(422, {"message": told, "url": f"{self.url}/api/swagger"})
        if not repository.commit(head) or not repository.commit(base):
            raise _Refused(404, missing)
        if (there := repository.open_one(head, base)) is not None:
            told = (
                f"pull request already exists for these targets [id: {there.number}, issue_id: {there.number}, "
                f"head_repo_id: 1, base_repo_id: 1, head_branch: {head}, base_branch: {base}]"
            )
            raise _Refused(409, {"message": told, "url": f"{self.url}/api/swagger"})
        return self._open(repository, head, base, title, body.get("body") or "", bool(_DRAFT["gitea"].match(title)))

    def _gitea_shown(self, repository: Repository, pull: PullRequest) -> dict[str, Any]:
        return {
            "id": 1000 + pull.number,
            "number": pull.number,
            "state": pull.state,
            "title": pull.title,
            "body": pull.body,
            "draft": pull.draft,
            "html_url": f"{self.url}/{repository.name}/pulls/{pull.number}",
            "head": {"ref": pull.head, "label": pull.head, "repo": {"full_name": pull.repository}},
            "base": {"ref": pull.base, "label": pull.base, "repo": {"full_name": repository.name}},
        }

    # --- What they share ----------------------------------------------------------------------------------------------
    def _open(
        self, repository: Repository, head: str, base: str, title: str, body: str, draft: bool
    ) -> PullRequest:  # fmt: skip
        pull = PullRequest(len(repository.pulls) + 1, head, base, title, body, draft, repository=repository.name)
        repository.pulls.append(pull)
        self.opened(pull)
        return pull

    def _members(self, body: Any, known: set[str]) -> None:
        if not isinstance(body, dict):
            raise _Refused(400, {"message": "Problems parsing JSON"})
        if strange := set(body) - known:
            self.refused.append(f"members that {self.kind} doesn't know: {sorted(strange)}")

    def _numbered(self, repository: Repository, number: int, missing: dict[str, Any]) -> PullRequest:
        found = next((pull for pull in repository.pulls if pull.number == number), None)
        if found is None:
            raise _Refused(404, missing)
        return found

    def _page(self, asked: Asked, items: list[dict[str, Any]], size: int, page: int) -> Answer:
        shown = items[(page - 1) * size : page * size]
        if page * size >= len(items):
            return Answer(200, shown)
        # A relative address would do; forges give absolute ones, with the other parameters.
        link = f'<{self.url}{asked.path}?page={page + 1}>; rel="next", <{self.url}{asked.path}?page=99>; rel="last"'
        return Answer(200, shown, (("Link", link),))
