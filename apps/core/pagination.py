"""Lists in pages: ``{count, next, previous, results}``, moved through by ``?limit=`` and ``?offset=``."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet
from rest_framework.generics import GenericAPIView
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer


class Pagination(LimitOffsetPagination):
    """50 rows a page unless the caller says otherwise, at most 200."""

    default_limit = 50
    max_limit = 200
    #: Postgres has no larger offset, and nobody has a list as long.
    max_offset = 2**31

    def get_offset(self, request: Request) -> int:
        return min(super().get_offset(request), self.max_offset)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """In the words of OpenAPI 3.1, which knows no ``nullable``."""
        address = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {"count": {"type": "integer"}, "next": address, "previous": address, "results": schema},
        }


class PagedView(GenericAPIView[Any]):
    """A view that renders lists in pages."""

    pagination_class = Pagination

    def page(self, queryset: QuerySet[Any, Any], serializer_class: type[BaseSerializer[Any]]) -> Response:
        """The page of the rows that the request asks for. The queryset must be ordered."""
        rows: list[Model] = list(self.paginate_queryset(queryset) or [])
        return self.get_paginated_response(serializer_class(rows, many=True).data)
