"""The public REST API, typed. Knows nothing of terminals; see ``cli.watch`` for the live half."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from cli.errors import ApiError, CliError
from cli.resources import (
    AgentProfile,
    Allowance,
    Catalogue,
    Diff,
    EventPage,
    Forge,
    IndexJob,
    Person,
    Progress,
    Project,
    ProviderKey,
    Publication,
    Rule,
    Secret,
    Session,
    Step,
    StepPage,
    UsageRow,
)

T = TypeVar("T")

#: Seconds; an upload or a download may be silent for longer than an answer.
REQUEST_TIMEOUT = httpx.Timeout(30, connect=10)
TRANSFER_TIMEOUT = httpx.Timeout(600, connect=10)
_CHUNK = 1024 * 1024
#: The longest page of a list that a server gives out.
PAGE_ROWS = 200


def url_is_loopback(url: str) -> bool:
    """Whether the server is this machine, so that no proxy stands in between."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Api:
    """A client of one Archon server.

    Every method raises :class:`ApiError`: with the server's own words where it answered, with ``status`` 0 where it did
    not. The token goes to ``base_url`` alone; redirects are not followed.
    """

    def __init__(self, *, base_url: str, token: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CliError(
                f"{base_url!r} is no server address",
                next_step="name it like https://archon.example.com or http://127.0.0.1:8000",
                code="invalid_server",
            )
        if not token.isascii() or any(character.isspace() for character in token):
            raise CliError(
                "the token holds characters that no token has", next_step="check ARCHON_TOKEN", code="invalid_token"
            )
        self.base_url = base_url.rstrip("/")
        self.token = token
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "archon-cli"},
            timeout=REQUEST_TIMEOUT,
            trust_env=not url_is_loopback(self.base_url),
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    # --- projects -----------------------------------------------------------------------------------------------------
    def project_list(self) -> list[Project]:
        """The newest of one's projects."""
        return self._rows(Project, "/api/projects/")

    def project_get(self, project_id: str) -> Project:
        return self._json(Project, "GET", f"/api/projects/{project_id}/")

    def project_create(self, *, name: str, **fields: str | int) -> Project:
        return self._json(Project, "POST", "/api/projects/", body={"name": name, **fields})

    def project_update(self, project_id: str, fields: Mapping[str, Any]) -> Project:
        return self._json(Project, "PATCH", f"/api/projects/{project_id}/", body=fields)

    def agent_profiles(self, *, project_id: str) -> list[AgentProfile]:
        """What agents of each role are in a project."""
        return self._json(list[AgentProfile], "GET", "/api/agents/profiles/", params={"project": project_id})

    def project_delete(self, project_id: str) -> None:
        self._request("DELETE", f"/api/projects/{project_id}/")

    def project_sync(self, project_id: str, *, force: bool = False) -> Project:
        """Have the server fetch the repository again; it does so by itself."""
        return self._json(Project, "POST", f"/api/projects/{project_id}/repository/sync/", body={"force": force})

    def source_update(self, project_id: str, fields: Mapping[str, str | int]) -> Project:
        return self._json(Project, "PATCH", f"/api/projects/{project_id}/repository/source/", body=fields)

    def forge_get(self, project_id: str) -> Forge:
        return self._json(Forge, "GET", f"/api/projects/{project_id}/forge/")

    def forge_put(self, project_id: str, fields: Mapping[str, str]) -> Forge:
        """Set them, whole, but for a token that isn't sent."""
        return self._json(Forge, "PUT", f"/api/projects/{project_id}/forge/", body=fields)

    def archive_upload(self, *, project_id: str, archive: Path) -> Project:
        """Stream an archive to the project: its files become a commit."""
        answer = self._upload("POST", f"/api/projects/{project_id}/repository/archive/", archive)
        return _validated(Project, _decoded(answer))

    def repository_upload(self, *, project_id: str, bundle: Path, branch: str) -> None:
        """Stream a git bundle to the project; ``branch`` is the one that sessions start from."""
        self._upload("PUT", f"/api/projects/{project_id}/repository/", bundle, params={"branch": branch})

    # --- code ---------------------------------------------------------------------------------------------------------
    def index_start(self, project_id: str, *, rebuild: bool = False) -> IndexJob:
        """Have the project's code indexed; ask :meth:`index_job` how that stands."""
        return self._json(IndexJob, "POST", "/api/context/index/", body={"project": project_id, "rebuild": rebuild})

    def index_job(self, job_id: str) -> IndexJob:
        return self._json(IndexJob, "GET", f"/api/context/index/{job_id}/")

    def context_file_add(self, project_id: str, *, path: str, content: str) -> None:
        self._request("POST", "/api/context/files/", json={"project": project_id, "path": path, "content": content})

    def context_file_hide(self, project_id: str, *, path: str) -> None:
        """Have a file that the repository has be left out."""
        self._request("POST", "/api/context/files/", json={"project": project_id, "path": path, "hidden": True})

    def context_file_restore(self, project_id: str, path: str) -> None:
        """Have a path be as the repository has it; one that is so already is fine."""
        try:
            self._request("DELETE", "/api/context/files/", params={"project": project_id, "path": path})
        except ApiError as error:
            if error.status != 404:
                raise

    def code_search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer as it is: hits, how the index stands, notes."""
        return self._json(dict[str, Any], "POST", "/api/vector-store/search/", body=body)

    # --- models -------------------------------------------------------------------------------------------------------
    def models_get(self, *, project_id: str = "", vendor: str = "") -> Catalogue:
        params = {name: value for name, value in (("project", project_id), ("vendor", vendor)) if value}
        return self._json(Catalogue, "GET", "/api/agents/models/", params=params)

    def key_list(self, *, project_id: str = "") -> list[ProviderKey]:
        return self._rows(ProviderKey, "/api/agents/keys/", project=project_id or None)

    def key_store(self, *, scope: str, project_id: str, vendor: str, base_url: str, secret: str) -> ProviderKey:
        body = {"scope": scope, "vendor": vendor, "base_url": base_url, "secret": secret}
        if project_id:
            body["project"] = project_id
        return self._json(ProviderKey, "POST", "/api/agents/keys/", body=body)

    def key_test(self, key_id: str, *, model: str = "") -> ProviderKey:
        """Have the key tried; ask :meth:`key_get` what came of it."""
        return self._json(ProviderKey, "POST", f"/api/agents/keys/{key_id}/test/", body={"model": model})

    def key_get(self, key_id: str) -> ProviderKey:
        return self._json(ProviderKey, "GET", f"/api/agents/keys/{key_id}/")

    def key_delete(self, key_id: str) -> None:
        self._request("DELETE", f"/api/agents/keys/{key_id}/")

    # --- spending -----------------------------------------------------------------------------------------------------
    def me(self) -> Person:
        """Whoever the token belongs to."""
        return self._json(Person, "GET", "/api/auth/me/")

    def me_update(self, fields: Mapping[str, str]) -> Person:
        return self._json(Person, "PATCH", "/api/auth/me/", body=fields)

    def usage_list(
        self, *, by: str, first: str | None, last: str | None, project_id: str | None, user_id: str | None
    ) -> list[UsageRow]:
        """All rows, whichever pages they come in."""
        asked: dict[str, Any] = {"by": by, "from": first, "to": last, "project": project_id, "user": user_id}
        found: list[UsageRow] = []
        while page := self._rows(UsageRow, "/api/usage/", offset=len(found), **asked):
            found += page
            if len(page) < PAGE_ROWS:
                break
        return found

    def limits_get(self, scope: str, owner_id: str) -> Allowance:
        return self._json(Allowance, "GET", f"/api/usage/limits/{scope}/{quote(owner_id, safe='')}/")

    def limits_put(self, scope: str, owner_id: str, body: Mapping[str, Any]) -> Allowance:
        """Set them, whole."""
        return self._json(Allowance, "PUT", f"/api/usage/limits/{scope}/{quote(owner_id, safe='')}/", body=body)

    # --- secrets ------------------------------------------------------------------------------------------------------
    def secret_list(self, *, project_id: str) -> list[Secret]:
        return self._rows(Secret, f"/api/projects/{project_id}/secrets/")

    def secret_store(self, *, project_id: str, name: str, value: str) -> Secret:
        body = {"name": name, "value": value}
        return self._json(Secret, "POST", f"/api/projects/{project_id}/secrets/", body=body)

    def secret_delete(self, *, project_id: str, name: str) -> None:
        self._request("DELETE", f"/api/projects/{project_id}/secrets/{quote(name, safe='')}/")

    # --- sessions -----------------------------------------------------------------------------------------------------
    def session_run(self, *, project_id: str, goal: str, options: Mapping[str, Any]) -> Session:
        return self._json(
            Session, "POST", "/api/agents/sessions/run/", body={"project": project_id, "goal": goal, **options}
        )

    def attachment_upload(self, path: Path, *, name: str = "") -> str:
        """Stream a file to the server; the id by which a session or a message names it."""
        with path.open("rb") as file:
            answer = self._request(
                "POST",
                "/api/agents/attachments/",
                files={"file": (name or path.name, file, "application/octet-stream")},
                timeout=TRANSFER_TIMEOUT,
            )
        return str(_validated(dict[str, Any], _decoded(answer)).get("id", ""))

    def message_send(
        self, session_id: str, *, text: str, attachments: list[str], more: Mapping[str, Any], key: str
    ) -> Session:
        """Have a session that has ended go on; the same ``key`` again sends nothing twice."""
        body: dict[str, Any] = {"text": text, "attachments": attachments}
        if more:
            body["more"] = dict(more)
        answer = self._request(
            "POST", f"/api/agents/sessions/{session_id}/messages/", json=body, headers={"Idempotency-Key": key}
        )
        return _validated(Session, _decoded(answer))

    def session_steer(self, session_id: str, *, text: str, key: str) -> Session:
        """Say something to a session that has not ended; the same ``key`` again says nothing twice."""
        return self._json(Session, "POST", f"/api/agents/sessions/{session_id}/steer/", body={"text": text, "key": key})

    def step_list(self, session_id: str) -> list[Step]:
        """Every step that the session can be taken back to."""
        found: list[Step] = []
        while True:
            after = found[-1].seq if found else 0
            page = self._json(
                StepPage, "GET", f"/api/agents/sessions/{session_id}/steps/", params={"after": after, "limit": 500}
            )
            found += page.steps
            if len(page.steps) < 500:
                return found

    def session_list(self, *, limit: int = 20) -> list[Session]:
        """The newest sessions first."""
        return self._rows(Session, "/api/agents/sessions/", limit=limit)[:limit]

    def session_get(self, session_id: str) -> Session:
        return self._json(Session, "GET", f"/api/agents/sessions/{session_id}/")

    def session_progress(self, session_id: str) -> Progress:
        return self._json(Progress, "GET", f"/api/agents/sessions/{session_id}/progress/")

    def session_command(self, session_id: str, command: str, **arguments: Any) -> Session:
        """`pause`, `resume`, `cancel`, `merge`, `rebase` or `discard` the session; how it stands then."""
        return self._json(Session, "POST", f"/api/agents/sessions/{session_id}/{command}/", body=arguments)

    def session_report(self, session_id: str) -> dict[str, Any]:
        """The report's facts, and in words as ``markdown``."""
        return self._json(
            dict[str, Any], "GET", f"/api/agents/sessions/{session_id}/report/", timeout=TRANSFER_TIMEOUT
        )  # fmt: skip

    def session_publish(self, session_id: str, members: Mapping[str, Any]) -> Publication:
        """Have the session's branch pushed; ask :meth:`publication_get` how that stands."""
        return self._json(Publication, "POST", f"/api/agents/sessions/{session_id}/publish/", body=members)

    def publication_get(self, session_id: str) -> Publication:
        return self._json(Publication, "GET", f"/api/agents/sessions/{session_id}/publish/")

    def session_answer(self, session_id: str, *, question_id: str, answer: str) -> None:
        self._request(
            "POST", f"/api/agents/sessions/{session_id}/answer/", json={"question": question_id, "answer": answer}
        )

    def session_approve(self, session_id: str, *, call: str, digest: str, decision: str, **more: Any) -> Session:
        """`approve`, `edit` or `reject` the call that the session waits with, as it was seen."""
        body = {"call": call, "digest": digest, "decision": decision, **more}
        return self._json(Session, "POST", f"/api/agents/sessions/{session_id}/approve/", body=body)

    def plan_approve(self, plan_id: str, *, version: int, autonomy: str = "") -> None:
        """Let a plan be carried out as it was seen, with another autonomy of its session where one is named."""
        body: dict[str, Any] = {"version": version, **({"autonomy": autonomy} if autonomy else {})}
        self._request("POST", f"/api/planning/plans/{plan_id}/approve/", json=body)

    def plan_reject(self, plan_id: str, *, version: int, comment: str = "") -> None:
        """Send a plan back: a comment has the planner make another version, without one the session is cancelled."""
        body = {"version": version, "comment": comment}
        self._request("POST", f"/api/planning/plans/{plan_id}/reject/", json=body)

    def session_autonomy(self, session_id: str, autonomy: str) -> Session:
        return self._json(Session, "PUT", f"/api/agents/sessions/{session_id}/autonomy/", body={"autonomy": autonomy})

    # --- rules --------------------------------------------------------------------------------------------------------
    def rule_list(self, *, project_id: str = "") -> list[Rule]:
        return self._rows(Rule, "/api/agents/rules/", project=project_id or None, limit=200)

    def rule_create(self, fields: Mapping[str, Any]) -> Rule:
        return self._json(Rule, "POST", "/api/agents/rules/", body=fields)

    def rule_update(self, rule_id: str, fields: Mapping[str, Any]) -> Rule:
        return self._json(Rule, "PATCH", f"/api/agents/rules/{rule_id}/", body=fields)

    def rule_delete(self, rule_id: str) -> None:
        self._request("DELETE", f"/api/agents/rules/{rule_id}/")

    def session_diff(self, session_id: str) -> Diff:
        return self._json(Diff, "GET", f"/api/agents/sessions/{session_id}/diff/", timeout=TRANSFER_TIMEOUT)

    def event_page(self, session_id: str, *, after: int, limit: int = 500) -> EventPage:
        return self._json(
            EventPage, "GET", f"/api/agents/sessions/{session_id}/events/", params={"after": after, "limit": limit}
        )

    def bundle_download(self, session_id: str, *, target: Path) -> None:
        """Write the git bundle of the session's branch to ``target``."""
        self._download(f"/api/agents/sessions/{session_id}/bundle/", target)

    def patch_download(self, session_id: str, *, target: Path) -> None:
        """Write all that the session changed to ``target``, as ``git apply`` takes it."""
        self._download(f"/api/agents/sessions/{session_id}/patch/", target)

    # --- what has a module of its own ---------------------------------------------------------------------------------
    def call(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> T:
        """The answer of an address, as this kind."""
        asked = {name: value for name, value in (params or {}).items() if value is not None}
        return self._json(kind, method, path, body=body, params=asked)

    def send(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> None:
        """A request whose answer is empty."""
        self._request(method, path, json=body)

    def rows(self, kind: type[T], path: str, *, limit: int = PAGE_ROWS, **params: Any) -> list[T]:
        """A page of a list, the first unless ``offset`` is among the parameters."""
        return self._rows(kind, path, limit=limit, **params)

    def text(self, path: str, *, media_type: str) -> str:
        """The text of an address that answers with one."""
        return self._request("GET", path, headers={"Accept": media_type}).text

    # --- how ----------------------------------------------------------------------------------------------------------
    def _upload(
        self, method: str, path: str, source: Path, *, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        def content() -> Iterator[bytes]:
            with source.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk

        return self._request(
            method,
            path,
            params=params,
            content=content(),
            # The length is said beforehand, so that a server can refuse before the bytes have come.
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(source.stat().st_size)},
            timeout=TRANSFER_TIMEOUT,
        )

    def _download(self, path: str, target: Path) -> None:
        try:
            with self._http.stream("GET", path, timeout=TRANSFER_TIMEOUT) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise problem_error(answer)
                with target.open("wb") as file:
                    for chunk in answer.iter_bytes(_CHUNK):
                        file.write(chunk)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _json(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: httpx.Timeout = REQUEST_TIMEOUT,
    ) -> T:
        answer = self._request(method, path, json=body, params=params, timeout=timeout)
        return _validated(kind, _decoded(answer))

    def _rows(self, kind: type[T], path: str, *, limit: int = PAGE_ROWS, **params: Any) -> list[T]:
        """A page of a list: the first, unless ``offset`` is among the parameters."""
        asked = {name: value for name, value in params.items() if value is not None}
        body = _decoded(self._request("GET", path, params={"limit": limit, **asked}))
        rows = body.get("results") if isinstance(body, dict) else body
        return _validated(list[kind], rows)  # type: ignore[valid-type]

    def _request(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        content: Iterator[bytes] | None = None,
        files: Mapping[str, tuple[str, IO[bytes], str]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout = REQUEST_TIMEOUT,
    ) -> httpx.Response:
        try:
            answer = self._http.request(
                method,
                path,
                json=json,
                params=params,
                content=content,
                files=files,
                headers=headers,
                timeout=timeout,
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not answer.is_success:
            raise problem_error(answer)
        return answer

    def _unreachable(self, error: httpx.HTTPError) -> ApiError:
        said = str(error) or type(error).__name__
        return ApiError(
            f"{self.base_url} does not answer: {said}",
            next_step="see whether the server runs (`archon doctor`), and whether --server or ARCHON_SERVER is right",
            code="unreachable",
        )


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise _nonsense(answer) from error


def _validated(kind: type[T], data: Any) -> T:
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ApiError(
            f"the server's answer is not what this client expects ({where}: {first['msg']})",
            next_step="see whether the client and the server are of the same version",
            code="unexpected_answer",
            status=200,
        ) from error


def _nonsense(answer: httpx.Response) -> ApiError:
    return ApiError(
        f"{answer.url.copy_with(query=None)} answered {answer.status_code} with something that isn't Archon's",
        next_step="see whether --server or ARCHON_SERVER names an Archon server",
        code="not_archon",
        status=answer.status_code,
    )


def problem_error(answer: httpx.Response) -> ApiError:
    """The error that a problem document (RFC 9457) tells."""
    try:
        body = answer.json()
    except ValueError:
        return _nonsense(answer)
    if not isinstance(body, dict) or not (body.get("detail") or body.get("title")):
        return _nonsense(answer)
    message = str(body.get("detail") or body.get("title"))
    errors = body.get("errors")
    if errors:
        message += " (" + "; ".join(_errors_flat(errors)) + ")"
    next_step = str(body.get("next_step") or "")
    if answer.status_code == 401 and not next_step:
        next_step = "set ARCHON_TOKEN to an API key or an access token of this server"
    return ApiError(
        message,
        next_step=next_step,
        code=str(body.get("code") or "error"),
        status=answer.status_code,
        state=str(body.get("state") or ""),
    )


def _errors_flat(errors: Any, name: str = "") -> list[str]:
    """Validation errors, however deep, as `field: what is wrong`."""
    if isinstance(errors, dict):
        if isinstance(errors.get("message"), str):
            where = str(errors.get("field") or errors.get("loc") or name)
            return [f"{where}: {errors['message']}" if where else errors["message"]]
        return [line for key, value in errors.items() for line in _errors_flat(value, f"{name}.{key}" if name else key)]
    if isinstance(errors, list):
        return [line for value in errors for line in _errors_flat(value, name)]
    return [f"{name}: {errors}" if name else str(errors)]


def token_from_environment() -> str:
    """The token for a server that was named; where there is none, what to do."""
    token = os.environ.get("ARCHON_TOKEN", "").strip()
    if not token:
        raise CliError(
            "a server is named, but no token for it",
            next_step="make an API key there (POST /api/auth/keys/) and set ARCHON_TOKEN to it",
            code="no_token",
        )
    return token
