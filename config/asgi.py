"""The ASGI application: HTTP through Django, WebSockets through Channels."""

from __future__ import annotations

from config.bootstrap import prepare

prepare()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402

import config.celery  # noqa: E402, F401  (what the API sends goes to this queue)
from apps.agents.uploads import attachment_limit_for  # noqa: E402
from apps.chat.routing import websocket_urlpatterns  # noqa: E402
from apps.core.body_limit import BodyLimit, first_limit  # noqa: E402
from apps.projects.uploads import upload_limit_for  # noqa: E402

http_application = BodyLimit(
    django_application,
    limit=settings.ARCHON_REQUEST_LIMIT_KB * 1024,
    limit_for=first_limit(upload_limit_for, attachment_limit_for),
)
application = ProtocolTypeRouter({"http": http_application, "websocket": URLRouter(websocket_urlpatterns)})
