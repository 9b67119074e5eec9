"""Jobs are numbered in the order in which they were wanted, those that are there already by their time."""

from django.db import migrations, models

NUMBER = """
UPDATE context_indexjob AS job SET number = ordered.number FROM (
    SELECT id, row_number() OVER (PARTITION BY index_id ORDER BY created_at, id) AS number FROM context_indexjob
) AS ordered WHERE ordered.id = job.id
"""


class Migration(migrations.Migration):
    dependencies = [("context", "0003_locating")]

    operations = [
        migrations.AddField("indexjob", "number", models.PositiveBigIntegerField(default=0)),
        migrations.RunSQL(NUMBER, migrations.RunSQL.noop),
        migrations.AddConstraint(
            "indexjob", models.UniqueConstraint(fields=("index", "number"), name="index_job_number_unique")
        ),
    ]
