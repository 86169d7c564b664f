"""The words at the beginning of docs/variables.md: where variables come from, and which belong together."""

INTRODUCTION = """\
# Variables of an image

<!-- Made of src/goldsmith/definition; written anew by `python -m goldsmith.definition.describe docs`. -->

An image is a folder under `images/` with a `vars.yml` and a `playbook.yml`. `vars.yml` is an ordinary Ansible vars
file, read as Ansible reads it (YAML 1.1: `yes` is a truth value, `0755` is 493). It may be empty: without a
`proxmox_api_host` every variable has a default that works. A variable without a value (`apps:`) has its default too.

```yaml
# yaml-language-server: $schema=../../docs/vars.schema.json
template_name: debian-12-docker
template_user: ops
apps: [git, htop]
docker_version: "27"     # not known to goldsmith: for the playbook
```

All other names are the playbook's own and reach it untouched. So that a slip of the finger does not go unseen, a name
that is nearly a known one is an error (`temp_vmdi`); a known name with words added (`apps_extra`, `git_email_2`), or
its plural with a list where the known one takes none (`template_users`), is not. How the build guest is reached
(`ansible_host`, `ansible_connection` and their like) is goldsmith's to say.

Every mistake in the files is reported at once, with file, line and the accepted form, before anything is created.

## Templates

Values of known variables may be Jinja: other variables of the image's files, known ones and your own, and
`lookup('env', NAME)`. Facts, other lookups and Ansible's own filters exist only while the playbook runs. One single
`{{ expression }}` may give a list: `apps: "{{ base_apps + ['htop'] }}"`. Text that only looks like a template
is marked with `!unsafe`. The playbook's own variables are rendered by Ansible itself.

## Secrets

`proxmox_api_token_secret`, `proxmox_api_password`, `proxmox_api_totp`, `proxmox_sudo_password` and
`template_password` are taken from the first of these that has them:

1. the environment, in capitals: `PROXMOX_API_TOKEN_SECRET`, `TEMPLATE_PASSWORD`, ...;
2. `vault.yml` beside `vars.yml`: encrypted as a whole with `ansible-vault encrypt`, or plain YAML with `!vault` values;
3. `vars.yml`, where a value may be `!vault` too, or the whole file encrypted.

`vault.yml` may hold any other variable as well, and wins over `vars.yml`. The vault password comes from the file that
`--vault-password-file` or `ANSIBLE_VAULT_PASSWORD_FILE` names; an executable one is run and prints it.

The playbook's own variables are secret when they are `!vault` values or stand in an encrypted file: they are masked in
everything goldsmith shows or stores. There, numbers of four digits and more become text, so that they can be masked;
shorter ones and truth values are no secrets.

## What belongs together

- `proxmox_api_host` needs `temp_ip_address`, `temp_gateway`, and `proxmox_api_token_id` with
  `proxmox_api_token_secret` or else `proxmox_api_password`. With `guest_connection: console` the address may be
  missing, and with it the gateway.
  Without it, the other variables of the API are ignored: taking out one line moves an image to the embedded node.
- `temp_gateway` lies in the network of `temp_ip_address`, is another address, and makes no sense without one. On the
  embedded node `temp_ip_address` may stand alone; the node's own gateway is taken.
- A `proxmox_api_token_id` with its user (`root@pam!ci`) fits `proxmox_api_user` where that is given as well.
- `temp_vmid` and `temp_ip_address` are no server's in `inventory/hosts.yml`, and no guest's on the node.
"""
