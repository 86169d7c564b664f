"""Which Proxmox VE the embedded node speaks like."""

VERSION = "8.4.21"
RELEASE = "8.4"
REPOID = "901d5317"
"""Proxmox puts a commit here, 8 to 64 hex digits; by this one sees that it is not a Proxmox."""
