"""The words at the beginning of docs/servers.md: how servers are declared."""

SERVERS_INTRODUCTION = """\
# Servers of the fleet

<!-- Made of src/goldsmith/definition; written anew by `python -m goldsmith.definition.describe docs`. -->

Servers are hosts of an Ansible inventory, `inventory/hosts.yml`: any form that Ansible understands, with groups,
`group_vars` and `host_vars`. A host with `image` is a server; all other hosts are none of goldsmith's business, and so
are all other variables of a server, except one that is nearly a known one (`memori`): that is an error. Values may be
templates of the host's own variables. [The fleet](fleet.md) says what goldsmith does with them.

```yaml
all:
  vars:
    bridge: vmbr0
    gateway: 10.10.10.1
    proxmox_api_host: pve.example.com     # the same proxmox_ variables as in vars.yml; without it, the embedded node
    proxmox_api_token_id: goldsmith@pve!ci
  children:
    databases:
      hosts:
        db1:
          image: debian-12-postgresql
          channel: stable
          vmid: [111, 211]
          address: 10.10.10.11/24
          data: [{path: /var/lib/postgresql, volume: "local-lvm:8"}]
          backup: {storage: local, keep: {last: 3, weekly: 4}}
          checks: [{port: 5432}]
```

Secrets of the connection are taken from the environment (`PROXMOX_API_TOKEN_SECRET`) or from a vault, as for images.
"""
