"""What exceptions of OpenAI's library mean; both of its protocols raise the same."""

from __future__ import annotations

import re

import httpx2
import openai
from langchain_core.exceptions import ContextOverflowError

from .failures import (
    UNREADABLE,
    Refusal,
    Wording,
    broken_off_failure,
    causes,
    refusal_failure,
    transport_failure,
    unreadable_failure,
)
from .types import CallFailure, ModelSpec

#: LangChain's words for an error within a stream of the Responses protocol.
_IN_STREAM = re.compile(r"ResponseError\(|Response \S+ failed|[a-z_]+_(?:error|exceeded): ")
_CODE = re.compile(r"(?:^|code=')([a-z_]+)(?:: |')")


def openai_failure(spec: ModelSpec, error: Exception, wording: Wording) -> CallFailure | None:
    """What an exception out of a call means. None: it comes from elsewhere."""
    if (found := transport_failure(spec, error)) is not None:
        return found
    unreadable = next(
        (each for each in causes(error) if isinstance(each, (*UNREADABLE, openai.APIResponseValidationError))), None
    )
    if isinstance(error, openai.APIConnectionError) and unreadable is None:
        lower = httpx2.ReadTimeout("") if isinstance(error, openai.APITimeoutError) else httpx2.NetworkError(str(error))
        return transport_failure(spec, lower)
    if isinstance(error, openai.APIStatusError):
        return refusal_failure(spec, _refusal(error), wording)
    if isinstance(error, ContextOverflowError):
        return refusal_failure(spec, Refusal(413, _words(error)), wording)
    if unreadable is not None:
        if _IN_STREAM.match(str(unreadable)):
            code = _CODE.search(str(unreadable))
            return broken_off_failure(spec, Refusal(200, str(unreadable), code.group(1) if code else ""))
        return unreadable_failure(spec, unreadable, wording)
    if isinstance(error, openai.APIError):  # an error inside a stream
        return broken_off_failure(spec, Refusal(200, _words(error), str(error.code or error.type or "")))
    return None


def _refusal(error: openai.APIStatusError) -> Refusal:
    return Refusal(
        status=error.status_code, text=_words(error), code=str(error.code or ""), headers=error.response.headers
    )


def _words(error: BaseException) -> str:
    body = getattr(error, "body", None)
    text = body.get("message") if isinstance(body, dict) else None
    return str(text or str(error) or type(error).__name__)
