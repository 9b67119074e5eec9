from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("vector_store", "0001_embedders_and_spaces"),
    ]

    operations = [
        migrations.AddField(
            model_name="vectornamespace",
            name="of_space",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
