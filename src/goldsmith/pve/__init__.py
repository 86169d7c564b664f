"""Talking to a Proxmox VE node: its REST API with typed answers and, where that has no way, its shell.

One module here imports proxmoxer. It does not know what an image or a fleet is, nor whether the node is embedded.
"""
