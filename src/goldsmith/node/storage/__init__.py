"""Storages of the embedded node: where volumes, templates and backups lie, and how they are copied on write."""
