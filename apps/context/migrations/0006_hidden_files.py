"""A file may be hidden by hand, as one may be added."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("context", "0005_file_summaries")]

    operations = [
        migrations.AddField(model_name="addedfile", name="hidden", field=models.BooleanField(default=False)),
    ]
