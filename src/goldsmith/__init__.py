"""goldsmith: from an Ansible playbook to tested, versioned, replaceable servers on Proxmox VE.

The rooms, in the order of an image's life: `definition` (what the user wrote), `build` (the image is made),
`provision` (Ansible), `verify` (tests on a fresh guest), `artifacts` (the repository), `fleet` (servers are replaced),
`report`. Below them `pve` talks to a Proxmox node, `node` is one, and `base` holds what all share.
"""

__version__ = "0.1.0.dev0"
