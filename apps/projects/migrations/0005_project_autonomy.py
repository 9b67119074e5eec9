from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("projects", "0004_repository_source"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="autonomy",
            field=models.CharField(
                blank=True,
                choices=[("observe", "Observe"), ("ask", "Ask"), ("auto-edit", "Auto Edit"), ("auto", "Auto")],
                db_default="",
                default="",
                max_length=10,
            ),
        ),
    ]
