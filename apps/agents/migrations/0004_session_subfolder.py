from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("agents", "0003_protect_active_sessions"),
    ]

    operations = [
        migrations.AddField(
            model_name="agentsession",
            name="subfolder",
            field=models.CharField(blank=True, max_length=1000),
        ),
    ]
