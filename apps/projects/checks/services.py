"""Recognising that a check failed for want of a service, such as a database: checks have none."""

from __future__ import annotations

import re

_SERVICES = {
    "PostgreSQL": r"psycopg2?\.OperationalError|asyncpg\.exceptions|PG::ConnectionBad|[:\s]5432\b.{0,80}refused|"
    r"refused.{0,80}[:\s]5432\b|SequelizeConnectionRefusedError.{0,80}5432",
    "MySQL": r"pymysql\.err\.OperationalError|MySQLdb\.OperationalError|Can't connect to (local )?MySQL|"
    r"[:\s]3306\b.{0,80}refused|refused.{0,80}[:\s]3306\b",
    "Redis": r"redis\.exceptions\.ConnectionError|[:\s]6379\b.{0,80}refused|refused.{0,80}[:\s]6379\b|"
    r"Redis::CannotConnectError",
    "MongoDB": r"MongoNetworkError|MongooseServerSelectionError|ServerSelectionTimeoutError|"
    r"[:\s]27017\b.{0,80}refused|refused.{0,80}[:\s]27017\b",
    "RabbitMQ": r"AMQPConnectionError|[:\s]5672\b.{0,80}refused|refused.{0,80}[:\s]5672\b",
    "Elasticsearch": r"[:\s]9200\b.{0,80}refused|refused.{0,80}[:\s]9200\b",
    "Docker": r"Cannot connect to the Docker daemon|DockerException|Could not find a valid Docker environment|"
    r"Could not find a working container runtime",
}
_SETTINGS = re.compile(
    r"\b((DATABASE|POSTGRES|REDIS|MONGO(DB)?|MYSQL|AMQP|RABBITMQ|ELASTICSEARCH|BROKER)_(URL|URI|HOST|DSN))\b"
    r"(?=.{0,60}(not set|is required|missing|undefined|must be|KeyError|not found))|"
    r"(?:KeyError: ['\"]|Set the )((DATABASE|POSTGRES|REDIS|MONGO(DB)?|MYSQL|AMQP)_(URL|URI|HOST|DSN))"
)
_LOOKED_AT = 40_000


def service_hint(output: str) -> str:
    """What the end of a failed check's output says about a service that it missed; empty when nothing."""
    tail = output[-_LOOKED_AT:]
    named = [name for name, pattern in _SERVICES.items() if re.search(pattern, tail, re.IGNORECASE)]
    settings = _SETTINGS.search(tail)
    if settings and not named:
        named = [f"what {settings[1] or settings[5]} names"]
    if not named:
        return ""
    return f"it seems to need a service ({', '.join(named)}), and checks have none: see docs/how-to/checks-and-setup.md"
