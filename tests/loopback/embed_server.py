"""Endpoints that embed: OpenAI's protocol and Google's, as strict as the real ones.

Vectors are of the words of a text, hashed: texts that share words are near each other.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from .json_server import Answer, Asked, JsonServer

#: What to answer instead of vectors, by the texts; None: vectors.
Instead = Callable[[Sequence[str]], Answer | None]
_OPENAI_MEMBERS = {"model", "input", "encoding_format", "dimensions", "user"}
_TASKS = {"RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY", "CODE_RETRIEVAL_QUERY", "SEMANTIC_SIMILARITY"}
_GOOGLE_PATH = re.compile(r"/v1beta/models/([A-Za-z0-9._-]+):batchEmbedContents")


def words_vector(text: str, dimension: int) -> list[float]:
    """The text's words, hashed into so many numbers."""
    vector = [0.0] * dimension
    for word in re.findall(r"\w+", text.lower()) or ["."]:
        digest = hashlib.sha256(word.encode()).digest()
        vector[int.from_bytes(digest[:4], "big") % dimension] += 1.0 if digest[4] % 2 else -1.0
    # Words may cancel each other out.
    vector[0] += 0.01
    norm = math.sqrt(sum(number * number for number in vector))
    return [number / norm for number in vector]


class EmbedServer(JsonServer):
    """``texts`` are those that were embedded, in order; ``instead`` may be changed at any time."""

    def __init__(
        self,
        *,
        protocol: str = "openai",
        dimension: int = 1536,
        api_key: str = "sk-embed",
        max_characters: int = 1_000_000,
        with_usage: bool = True,
    ) -> None:
        super().__init__()
        self.protocol = protocol
        self.dimension = dimension
        self.api_key = api_key
        self.max_characters = max_characters
        self.with_usage = with_usage
        self.instead: Instead | None = None
        self.texts: list[str] = []
        self.kinds: list[str] = []
        self.tokens = 0

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1" if self.protocol == "openai" else self.url

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            return self._openai(asked) if self.protocol == "openai" else self._google(asked)

    def _openai(self, asked: Asked) -> Answer:
        if (asked.method, asked.path) != ("POST", "/v1/embeddings"):
            return self._refuse(404, f"Unknown request URL: {asked.method} {asked.path}")
        if asked.headers.get("authorization", "") != (f"Bearer {self.api_key}" if self.api_key else ""):
            return self._error(401, "Incorrect API key provided.", "invalid_api_key")
        body = asked.body
        if not isinstance(body, dict) or set(body) - _OPENAI_MEMBERS or not isinstance(body.get("model"), str):
            return self._refuse(400, f"a body with the members {sorted(body or {})}")
        texts = body.get("input")
        if not isinstance(texts, list) or not 1 <= len(texts) <= 2048:
            return self._refuse(400, "'$.input' is invalid")
        if not all(isinstance(text, str) and text for text in texts):
            return self._refuse(400, "input cannot be an empty string")
        if body.get("encoding_format") not in (None, "float"):
            return self._refuse(400, "only floats are spoken here")
        dimension = body.get("dimensions", self.dimension)
        if "dimensions" in body and not body["model"].startswith("text-embedding-3"):
            return self._refuse(400, "This model does not support specifying dimensions.")
        if (other := self._other(texts)) is not None:
            return other
        data = [
            {"object": "embedding", "index": index, "embedding": words_vector(text, dimension)}
            for index, text in enumerate(texts)
        ]
        tokens = self._count(texts, "")
        usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if self.with_usage else {}
        # The order is nowhere promised; the index says whose each is.
        return Answer(200, {"object": "list", "data": data[::-1], "model": body["model"], **usage})

    def _google(self, asked: Asked) -> Answer:
        path = _GOOGLE_PATH.fullmatch(asked.path)
        if asked.method != "POST" or path is None:
            return self._refuse(404, f"no such method: {asked.method} {asked.path}")
        if asked.headers.get("x-goog-api-key") != self.api_key:
            return self._error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT")
        requests = asked.body.get("requests") if isinstance(asked.body, dict) else None
        if not isinstance(requests, list) or not 1 <= len(requests) <= 100 or set(asked.body) != {"requests"}:
            return self._refuse(400, "at most 100 requests can be in one batch")
        texts, dimensions, tasks = [], set(), set()
        for each in requests:
            if set(each) - {"model", "content", "taskType", "outputDimensionality", "title"}:
                return self._refuse(400, f"a request with the members {sorted(each)}")
            if each.get("model") != f"models/{path[1]}" or each.get("taskType") not in _TASKS:
                return self._refuse(400, "a request of another model, or for no known task")
            (part,) = each["content"]["parts"]
            if not part["text"]:
                return self._refuse(400, "the content must not be empty")
            texts.append(part["text"])
            dimensions.add(each.get("outputDimensionality", self.dimension))
            tasks.add(each["taskType"])
        if (other := self._other(texts)) is not None:
            return other
        (dimension,), (task,) = dimensions, tasks
        # Shortened ones are not of length one.
        scale = 1.0 if dimension == self.dimension else 0.7
        rows = [{"values": [scale * number for number in words_vector(text, dimension)]} for text in texts]
        tokens = self._count(texts, task)
        usage = {"usageMetadata": {"promptTokenCount": tokens}} if self.with_usage else {}
        return Answer(200, {"embeddings": rows, **usage})

    def _other(self, texts: Sequence[str]) -> Answer | None:
        if self.instead is not None and (other := self.instead(texts)) is not None:
            return other
        if any(len(text) > self.max_characters for text in texts):
            message = f"This model's maximum context length is {self.max_characters} tokens, however you requested more"
            return self._error(400, message, "context_length_exceeded")
        return None

    def _count(self, texts: Sequence[str], kind: str) -> int:
        self.texts += texts
        self.kinds.append(kind)
        tokens = sum(len(text) // 4 + 1 for text in texts)
        self.tokens += tokens
        return tokens

    def _refuse(self, status: int, problem: str) -> Answer:
        self.refused.append(problem)
        return self._error(status, problem, "invalid_request_error")

    def _error(self, status: int, message: str, code: str) -> Answer:
        error: dict[str, Any] = {"message": message, "code": code, "type": code}
        if self.protocol != "openai":
            error = {"code": status, "message": message, "status": code}
        return Answer(status, {"error": error})
