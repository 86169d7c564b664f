"""Looking whether a Proxmox has all that the configured work needs, before any of it is begun.

What is needed is listed by `needs` (pure), compared with what is there by `examine`, and `role` renders the commands
that grant what is missing. Nothing here changes anything.
"""
