from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("projects", "0002_head_commit_and_constraints"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="network_hosts",
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name="project",
            name="subfolder",
            field=models.CharField(blank=True, max_length=1000),
        ),
    ]
