"""The embedded node: Proxmox VE's REST API over real LXC containers, for machines without a Proxmox at hand.

It runs as its own process (root), keeps all state in files below one directory as Proxmox does, and does its long work
in worker processes that write a task log. It imports `base` only; nothing outside `cli` and tests imports it: everybody
else talks to it over HTTPS like to any other node.
"""
