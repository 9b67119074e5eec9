from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0001_initial")]

    operations = [
        migrations.AddField("budget", "spent_cache_write_tokens", models.BigIntegerField(default=0, db_default=0)),
        migrations.AddField("modelcall", "cache_write_tokens", models.BigIntegerField(default=0, db_default=0)),
    ]
