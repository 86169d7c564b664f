"""What every room shares: errors, events, processes, digests, files, secrets.

This room knows nothing of Proxmox, Ansible or images, never prints and never exits.
"""
