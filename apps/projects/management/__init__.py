"""Commands of the projects app for manage.py."""
