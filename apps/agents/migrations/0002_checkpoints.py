"""LangGraph's checkpoint tables, and the fence that every write to them passes."""

from __future__ import annotations

from typing import Any

from django.db import migrations

FENCE_CHECK = """
CREATE OR REPLACE FUNCTION agents_fence_check(checked_session uuid, checked_fence bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM agents_sessionhead WHERE session_id = checked_session AND fence = checked_fence FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'stale fence % of session %', checked_fence, checked_session USING ERRCODE = 'AR001';
    END IF;
END $$
"""


def checkpoints_create(apps: Any, schema_editor: Any) -> None:
    """Let the saver lay out its own tables; on a connection of its own, since it makes indexes concurrently."""
    # LangGraph is imported here alone: a migration module is read by every management command.
    import psycopg
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg.rows import dict_row

    settings = schema_editor.connection.settings_dict
    with psycopg.connect(
        dbname=settings["NAME"],
        user=settings["USER"],
        password=settings["PASSWORD"],
        host=settings["HOST"],
        port=settings["PORT"],
        autocommit=True,
        prepare_threshold=0,
        row_factory=dict_row,
    ) as connection:
        PostgresSaver(connection).setup()


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("agents", "0001_initial")]
    operations = [
        migrations.RunSQL(FENCE_CHECK, "DROP FUNCTION agents_fence_check(uuid, bigint)"),
        migrations.RunPython(checkpoints_create, migrations.RunPython.noop),
    ]
