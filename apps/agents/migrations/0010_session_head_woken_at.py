from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0009_policy_rules_and_approvals")]

    operations = [
        migrations.AddField(
            model_name="sessionhead", name="woken_at", field=models.DateTimeField(blank=True, null=True)
        ),
    ]
