"""What locating keeps; it goes with the index, like the other rows without foreign keys (0002)."""

from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION context_locating_rows_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM context_contentterms WHERE index_id = OLD.id;
    DELETE FROM context_commithistory WHERE index_id = OLD.id;
    RETURN OLD;
END $$;

CREATE TRIGGER context_locating_rows_delete BEFORE DELETE ON context_codeindex
    FOR EACH ROW EXECUTE FUNCTION context_locating_rows_delete();

-- Compressed already.
ALTER TABLE context_contentterms ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE context_commithistory ALTER COLUMN data SET STORAGE EXTERNAL;
"""
BACKWARDS = """
DROP TRIGGER context_locating_rows_delete ON context_codeindex;
DROP FUNCTION context_locating_rows_delete();
"""


class Migration(migrations.Migration):
    dependencies = [("context", "0002_bulk_rows")]

    operations = [
        migrations.CreateModel(
            name="CommitHistory",
            fields=[
                ("index_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("data", models.BinaryField()),
                ("commits", models.IntegerField(default=0)),
                ("updated_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="ContentTerms",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("index_id", models.BigIntegerField()),
                ("blob", models.CharField(max_length=64)),
                ("language", models.CharField(blank=True, default="", max_length=40)),
                ("parser", models.PositiveSmallIntegerField()),
                ("data", models.BinaryField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("index_id", "blob", "language", "parser"), name="content_terms_unique"
                    )
                ],
            },
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
