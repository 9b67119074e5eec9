"""What the ORM can't say: ids in blocks, storage, and that the rows of an index go with it.

Rows that come in thousands have no foreign keys, since checking each costs as much again as writing it. One trigger on
the index's row deletes them, in the same transaction, whoever deletes the project.
"""

from django.db import migrations

FORWARDS = """
CREATE SEQUENCE context_row_ids;

-- The first of so many ids in a row. The lock is held for this call alone, not until the transaction ends.
CREATE FUNCTION context_ids_take(wanted bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
BEGIN
    PERFORM pg_advisory_lock(6128004717381312);
    first := nextval('context_row_ids');
    PERFORM setval('context_row_ids', first + greatest(wanted, 1) - 1);
    PERFORM pg_advisory_unlock(6128004717381312);
    RETURN first;
END $$;

-- Records are packed already, and read whole.
ALTER TABLE context_posting ALTER COLUMN records SET STORAGE EXTERNAL;

CREATE FUNCTION context_index_rows_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM context_posting WHERE index_id = OLD.id;
    DELETE FROM context_segment WHERE index_id = OLD.id;
    DELETE FROM context_overlayentry WHERE overlay_id IN (SELECT id FROM context_overlay WHERE index_id = OLD.id);
    DELETE FROM context_overlay WHERE index_id = OLD.id;
    DELETE FROM context_treeentry WHERE index_id = OLD.id;
    DELETE FROM context_codesymbol WHERE file_id IN (SELECT id FROM context_codefile WHERE index_id = OLD.id);
    DELETE FROM context_codechunk WHERE file_id IN (SELECT id FROM context_codefile WHERE index_id = OLD.id);
    DELETE FROM context_codefile WHERE index_id = OLD.id;
    RETURN OLD;
END $$;

CREATE TRIGGER context_index_rows_delete BEFORE DELETE ON context_codeindex
    FOR EACH ROW EXECUTE FUNCTION context_index_rows_delete();
"""
BACKWARDS = """
DROP TRIGGER context_index_rows_delete ON context_codeindex;
DROP FUNCTION context_index_rows_delete();
DROP FUNCTION context_ids_take(bigint);
DROP SEQUENCE context_row_ids;
"""


class Migration(migrations.Migration):
    dependencies = [("context", "0001_code_index")]

    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
