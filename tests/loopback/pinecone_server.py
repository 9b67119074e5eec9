"""Pinecone's API, both planes, as strict as the real one and as late: a write is seen by searches after a while.

Made after the 2026-07 API as Pinecone's own library speaks it. ``settle`` lets everything be seen; until then a search
sees what it saw before, however long that takes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .json_server import Answer, Asked, JsonServer

API_VERSION = "2026-07"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,43}[a-z0-9])?")
_MAX_VECTORS, _MAX_BYTES, _MAX_TOP_K, _MAX_IN = 1_000, 2_000_000, 10_000, 10_000
_QUERY_MEMBERS = {
    *("topK", "vector", "id", "namespace", "filter", "includeValues", "includeMetadata", "sparseVector"),
    *("scanFactor", "maxCandidates"),
}


@dataclass
class _Namespace:
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    visible: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class _Index:
    name: str
    dimension: int
    metric: str
    deployment: dict[str, Any]
    looks_until_ready: int = 0
    namespaces: dict[str, _Namespace] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PineconeServer(JsonServer):
    """``lag``: searches don't see writes before ``settle`` is called. ``failing``: a status for every data request."""

    def __init__(self, *, api_key: str = "pc-key", lag: bool = False) -> None:
        super().__init__()
        self.api_key = api_key
        self.lag = lag
        self.failing: int | None = None
        self.indexes: dict[str, _Index] = {}

    def settle(self) -> None:
        """What was written is seen from now on."""
        with self.lock:
            for index in self.indexes.values():
                for namespace in index.namespaces.values():
                    namespace.visible = dict(namespace.written)

    def index_put(self, name: str, dimension: int, *, metric: str = "cosine") -> None:
        """An index that somebody made before."""
        self.indexes[name] = _Index(name, dimension, metric, {"deployment_type": "managed"})

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            try:
                return self._answer(asked)
            except _Refused as error:
                if error.status == 400:
                    self.refused.append(str(error))
                return self._error(error.status, str(error))

    def _answer(self, asked: Asked) -> Answer:
        if asked.headers.get("api-key") != self.api_key:
            raise _Refused(401, "Invalid API Key")
        if asked.headers.get("x-pinecone-api-version") != API_VERSION:
            raise _Refused(400, f"no API version {asked.headers.get('x-pinecone-api-version')}")
        if asked.method == "POST" and not isinstance(asked.body, dict):
            raise _Refused(400, "the body is no JSON object")
        if asked.path == "/indexes" and asked.method == "POST":
            return self._index_make(asked.body)
        if match := re.fullmatch(r"/indexes/([^/]+)", asked.path):
            return Answer(200, self._shown(self._found(match[1])))
        if match := re.fullmatch(r"/data/([^/]+)(/.*)", asked.path):
            if self.failing is not None:
                raise _Refused(self.failing, "the server is failing")
            return self._data(self._found(match[1]), asked, match[2])
        raise _Refused(404, f"no such address: {asked.path}")

    def _index_make(self, body: dict[str, Any]) -> Answer:
        if set(body) - {"name", "schema", "deployment", "read_capacity", "deletion_protection", "tags", "cmek_id"}:
            raise _Refused(400, f"an index with the members {sorted(body)}")
        name, fields = body.get("name", ""), body["schema"]["fields"]
        if not _NAME.fullmatch(name):
            raise _Refused(400, f"Name must consist of lower case alphanumeric characters or '-': {name}")
        if name in self.indexes:
            raise _Refused(409, "Resource already exists")
        values, deployment = fields.get("_values"), body.get("deployment") or {}
        if set(fields) != {"_values"} or values["type"] != "dense_vector" or not 1 <= values["dimension"] <= 20_000:
            raise _Refused(400, "only an index of plain vectors is made here")
        placed = deployment.get("cloud") and deployment.get("region")
        if deployment.get("deployment_type") != "managed" or not placed:
            raise _Refused(400, "a deployment without cloud or region")
        self.indexes[name] = _Index(name, values["dimension"], values["metric"], deployment, looks_until_ready=1)
        return Answer(201, self._shown(self.indexes[name]))

    def _found(self, name: str) -> _Index:
        if name not in self.indexes:
            raise _Refused(404, f"Resource {name} not found")
        return self.indexes[name]

    def _shown(self, index: _Index) -> dict[str, Any]:
        ready = index.looks_until_ready <= 0
        index.looks_until_ready -= 1
        values = {"type": "dense_vector", "dimension": index.dimension, "metric": index.metric, "description": None}
        return {
            "name": index.name,
            "host": f"{self.url}/data/{index.name}",
            "status": {"ready": ready, "state": "Ready" if ready else "Initializing"},
            "schema": {"fields": {"_values": values}},
            "deployment": {"cloud": "aws", "region": "us-east-1", "environment": "aws-us-east-1", **index.deployment},
            "deletion_protection": "disabled",
            "tags": None,
        }

    def _data(self, index: _Index, asked: Asked, path: str) -> Answer:
        if asked.method == "DELETE" and path.startswith("/namespaces/"):
            if index.namespaces.pop(unquote(path.removeprefix("/namespaces/")), None) is None:
                raise _Refused(404, "Namespace not found")
            return Answer(200, {})
        if asked.method != "POST":
            raise _Refused(404, f"no such address: {asked.method} {path}")
        body = asked.body
        handler = {"/vectors/upsert": self._upsert, "/query": self._query, "/vectors/delete": self._delete}.get(path)
        if handler is None:
            raise _Refused(404, f"no such address: {path}")
        return Answer(200, handler(index, body))

    def _upsert(self, index: _Index, body: dict[str, Any]) -> dict[str, Any]:
        vectors = body.get("vectors") or []
        if set(body) - {"vectors", "namespace"} or not 1 <= len(vectors) <= _MAX_VECTORS:
            raise _Refused(400, f"an upsert of {len(vectors)} vectors")
        if len(str(body)) > _MAX_BYTES:
            raise _Refused(413, "Request size exceeds the maximum supported size of 2 MB")
        ids = [each["id"] for each in vectors]
        if len(set(ids)) < len(ids):
            raise _Refused(400, "an id that comes twice")
        for each in vectors:
            if set(each) - {"id", "values", "metadata", "sparseValues"} or not each["id"].isascii():
                raise _Refused(400, f"a vector with the members {sorted(each)}")
            if len(each["values"]) != index.dimension:
                raise _Refused(
                    400, f"Vector dimension {len(each['values'])} does not match the dimension {index.dimension}"
                )
            if not any(each["values"]) or not all(isinstance(number, int | float) for number in each["values"]):
                raise _Refused(400, "Dense vectors must contain at least one non-zero value")
            if not all(isinstance(value, str | int | float | bool) for value in (each.get("metadata") or {}).values()):
                raise _Refused(400, "Metadata value must be a string, number, boolean or list of strings")
        namespace = index.namespaces.setdefault(body.get("namespace", ""), _Namespace())
        namespace.written |= {each["id"]: each for each in vectors}
        self._show(namespace)
        return {"upsertedCount": len(vectors)}

    def _delete(self, index: _Index, body: dict[str, Any]) -> dict[str, Any]:
        ids = body.get("ids")
        if set(body) - {"ids", "namespace", "deleteAll", "filter"} or not ids or len(ids) > _MAX_VECTORS:
            raise _Refused(400, "a deletion of nothing, or of too much")
        namespace = index.namespaces.get(body.get("namespace", ""))
        if namespace is None:
            raise _Refused(404, "Namespace not found")
        namespace.written = {key: each for key, each in namespace.written.items() if key not in set(ids)}
        self._show(namespace)
        return {}

    def _query(self, index: _Index, body: dict[str, Any]) -> dict[str, Any]:
        if set(body) - _QUERY_MEMBERS or not 1 <= body.get("topK", 0) <= _MAX_TOP_K:
            raise _Refused(400, f"a query with the members {sorted(body)} for {body.get('topK')}")
        if len(body.get("vector") or ()) != index.dimension:
            raise _Refused(400, f"Vector dimension {len(body.get('vector') or ())} does not match {index.dimension}")
        wanted = self._filter(body.get("filter"))
        namespace = index.namespaces.get(body.get("namespace", ""), _Namespace())
        found = [
            each
            for each in namespace.visible.values()
            if all((each.get("metadata") or {}).get(name) in values for name, values in wanted.items())
        ]
        ranked = sorted(found, key=lambda each: -_cosine(body["vector"], each["values"]))[: body["topK"]]
        matches = [
            {"id": each["id"], "score": _cosine(body["vector"], each["values"]), "values": []}
            | ({"metadata": each.get("metadata")} if body.get("includeMetadata") else {})
            for each in ranked
        ]
        return {"matches": matches, "namespace": body.get("namespace", ""), "usage": {"readUnits": 5}}

    def _filter(self, said: Any) -> dict[str, set[Any]]:
        wanted = {}
        for name, condition in (said or {}).items():
            if set(condition) != {"$in"} or not 1 <= len(condition["$in"]) <= _MAX_IN:
                raise _Refused(400, f"a filter that isn't understood here: {str(said)[:80]}")
            wanted[name] = set(condition["$in"])
        return wanted

    def _show(self, namespace: _Namespace) -> None:
        if not self.lag:
            namespace.visible = dict(namespace.written)

    def _error(self, status: int, message: str) -> Answer:
        return Answer(status, {"error": {"code": "ERROR", "message": message}, "status": status})


def _cosine(one: list[float], other: list[float]) -> float:
    product = sum(left * right for left, right in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))
