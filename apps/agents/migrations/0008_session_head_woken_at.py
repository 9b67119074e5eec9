from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0007_session_models")]

    operations = [
        migrations.AddField(
            model_name="sessionhead", name="woken_at", field=models.DateTimeField(blank=True, null=True)
        ),
    ]
