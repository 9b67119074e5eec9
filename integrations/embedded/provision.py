"""Run as a program: see through the port that a Postgres is the one we started, and make what Archon needs in it.

Reads ``{"port", "password", "data"}`` and writes ``{"version", "identity", "vector"}`` as JSON; ``identity`` changes
when the database is another one, ``vector`` is pgvector's version or null.
"""

from __future__ import annotations

import json
import sys

import psycopg

from integrations.embedded.layout import DATABASE


def main() -> int:
    question = json.load(sys.stdin)
    address = f"host=127.0.0.1 port={question['port']} user=postgres connect_timeout=10"
    with psycopg.connect(f"{address} dbname=postgres", password=question["password"], autocommit=True) as server:
        if (found := _value(server, "SHOW data_directory")) != question["data"]:
            print(f"the server on port {question['port']} works in {found}", file=sys.stderr)
            return 1
        if _value(server, f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'") == 0:
            server.execute(f"CREATE DATABASE {DATABASE}")
        system = _value(server, "SELECT system_identifier FROM pg_control_system()")
        version = _value(server, "SHOW server_version")
    with psycopg.connect(f"{address} dbname={DATABASE}", password=question["password"], autocommit=True) as database:
        if _value(database, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
            database.execute("CREATE EXTENSION IF NOT EXISTS vector")
        vector = _value(database, "SELECT max(extversion) FROM pg_extension WHERE extname = 'vector'")
        number = _value(database, "SELECT oid FROM pg_database WHERE datname = current_database()")
    json.dump({"version": version, "identity": f"{system}/{number}", "vector": vector}, sys.stdout)
    return 0


def _value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


if __name__ == "__main__":
    sys.exit(main())
