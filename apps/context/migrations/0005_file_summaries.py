"""Summaries of files that were asked for."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("context", "0004_index_job_number"),
    ]

    operations = [
        migrations.CreateModel(
            name="FileSummary",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("blob", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=850)),
                ("asked", models.CharField(blank=True, default="", max_length=850)),
                ("asked_at", models.DateTimeField()),
                ("attempt", models.UUIDField(blank=True, null=True)),
                ("patience_until", models.DateTimeField(blank=True, null=True)),
                ("taken_at", models.DateTimeField(blank=True, null=True)),
                ("text", models.TextField(blank=True, default="")),
                ("partial", models.BooleanField(default=False)),
                ("made_at", models.DateTimeField(blank=True, null=True)),
                ("reason", models.JSONField(blank=True, null=True)),
                (
                    "index",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="summaries", to="context.codeindex"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("index", "blob", "model"), name="file_summary_once")
                ],
            },
        ),
    ]
