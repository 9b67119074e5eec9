from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("agents", "0005_attachments_messages_and_time")]

    operations = [
        migrations.AddField(
            model_name="toolcall",
            name="edit_format",
            field=models.CharField(blank=True, db_default="", default="", max_length=20),
        ),
        migrations.AddField(model_name="toolcall", name="well_formed", field=models.BooleanField(null=True)),
    ]
