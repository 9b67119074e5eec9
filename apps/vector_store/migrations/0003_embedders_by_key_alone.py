from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ("vector_store", "0002_namespace_of_space"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="embedderrecord", name="embedder_once"),
    ]
