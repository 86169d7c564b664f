"""Which Proxmox VE the embedded node speaks like."""

VERSION = "8.4.21"
RELEASE = "8.4"
REPOID = "goldsmith"
"""Proxmox puts a commit here; this is how one sees that it is not a Proxmox."""
