"""Containers: their config files, life cycle, what is written inside, volumes, snapshots, clones, backups."""
