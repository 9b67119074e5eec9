"""Requests to a forge's API: JSON both ways, lists page by page, and what a refusal means."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from .errors import ErrorKind, ForgeError

#: Of one answer, in bytes.
_LIMIT = 8 * 1024 * 1024
#: Pages of a list that are looked through.
_PAGES = 40
_SAID = 600
_KINDS: dict[int, ErrorKind] = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "exists",
    410: "not_found",
    412: "invalid",
    422: "invalid",
    423: "archived",
    429: "rate_limited",
}
#: When nobody says how long to wait.
_WAIT = 60.0


class ForgeHttp:
    """``refusal`` may know better than the status what an answer means: by status and words, or None."""

    def __init__(
        self,
        *,
        client: httpx.Client,
        api_url: str,
        headers: Mapping[str, str],
        token: str,
        refusal: Callable[[int, str], ErrorKind | None] = lambda status, said: None,
    ) -> None:
        self._client = client
        self._api_url = api_url
        self._headers = {"Accept": "application/json", "User-Agent": "Archon", **headers}
        self._token = token
        self._refusal = refusal

    def call(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """The answer's JSON. Raises ForgeError."""
        return self._answer(method, path, params=params, body=body)[0]

    def pages(self, path: str, *, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The items of a list, as far as pages of it are looked through. Raises ForgeError."""
        for page in range(1, _PAGES + 1):
            items, headers = self._answer("GET", path, params={**params, "page": page}, body=None)
            if not isinstance(items, list):
                raise ForgeError("bad_response", "a list was expected")
            yield from (item for item in items if isinstance(item, dict))
            if not items or 'rel="next"' not in headers.get("link", ""):
                return

    def _answer(
        self, method: str, path: str, *, params: Mapping[str, Any] | None, body: Any
    ) -> tuple[Any, httpx.Headers]:
        content = None if body is None else json.dumps(body).encode()
        # The client's own limit is one for each piece, so that an answer in many of them would never end.
        limit = self._client.timeout.read
        until = time.monotonic() + limit if limit is not None else float("inf")
        headers = dict(self._headers) if content is None else {**self._headers, "Content-Type": "application/json"}
        try:
            with self._client.stream(
                method, self._api_url + path, params=params, content=content, headers=headers
            ) as response:
                received = bytearray()
                for chunk in response.iter_bytes():
                    received += chunk
                    if time.monotonic() > until:
                        raise ForgeError("unreachable", f"the answer took more than {limit:.0f} s")
                    if len(received) > _LIMIT:
                        raise ForgeError("bad_response", "the answer is too long", status=response.status_code)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ForgeError("unreachable", self._without_token(str(error) or type(error).__name__)) from error
        decoded = _decoded(bytes(received))
        if response.is_success:
            if decoded is None:
                raise ForgeError("bad_response", "the answer is no JSON", status=response.status_code)
            return decoded, response.headers
        raise self._error(response, decoded, bytes(received))

    def _error(self, response: httpx.Response, decoded: Any, received: bytes) -> ForgeError:
        status = response.status_code
        said = said_of(decoded) or " ".join(received.decode("utf-8", "replace").split())[:200] or response.reason_phrase
        said = self._without_token(said)[:_SAID]
        kind: ErrorKind | None
        if response.is_redirect:
            kind, said = "moved", self._without_token(response.headers.get("location", ""))[:_SAID]
        elif status in (403, 429) and _is_limited(response.headers, said):
            kind = "rate_limited"
        else:
            kind = self._refusal(status, said) or _KINDS.get(status) or ("failing" if status >= 500 else "invalid")
        wait = _wait(response.headers) if kind == "rate_limited" or status >= 500 else None
        return ForgeError(kind, said, status=status, retry_after=wait)

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text


def said_of(body: Any) -> str:
    """What an error's document says, in the words of whichever forge: all of them have ``message``, or ``error``."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(said_of, body)))
    if not isinstance(body, dict):
        return ""
    told = [said_of(body[name]) for name in ("message", "error_description", "error") if body.get(name)]
    if not told and "resource" in body:
        told = [f"{body.get('field') or body['resource']}: {body.get('code', '')}"]
    if not told:
        # GitLab's validations: by field.
        told = [f"{name}: {said_of(value)}" for name, value in body.items() if isinstance(value, str | list)]
    if isinstance(body.get("errors"), list):
        told.append(said_of(body["errors"]))
    return "; ".join(dict.fromkeys(filter(None, told)))


def _decoded(received: bytes) -> Any:
    try:
        return json.loads(received)
    except ValueError:
        return None


def _is_limited(headers: httpx.Headers, said: str) -> bool:
    if headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers:
        return True
    return re.search(r"rate limit|abuse detection|too many requests", said, re.IGNORECASE) is not None


def _wait(headers: httpx.Headers) -> float:
    """Seconds that the forge asks to wait."""
    asked = headers.get("retry-after", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked and (moment := email.utils.parsedate_tz(asked)) is not None:
        return max(0.0, email.utils.mktime_tz(moment) - time.time())
    for name in ("x-ratelimit-reset", "ratelimit-reset"):
        if headers.get(name, "").isdigit():
            return max(1.0, float(headers[name]) - time.time())
    return _WAIT
