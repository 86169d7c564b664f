"""Who may do what: users, API tokens, roles, ACL and pools as Proxmox has them, tickets, and the callers of methods."""
