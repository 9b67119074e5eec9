"""Enables pgvector where the server has it and the role may; never fails, since everything else works without."""

from __future__ import annotations

import logging

from django.db import DatabaseError, migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

logger = logging.getLogger(__name__)


def extension_create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector' AND installed_version IS NULL")
        if cursor.fetchone() is None:
            return
    try:
        # A savepoint: a refusal must not undo the migration.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except DatabaseError as error:
        logger.warning("pgvector is there and was not enabled: %s", error)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunPython(extension_create, migrations.RunPython.noop)]
