"""The API tree, one file per subtree: each method stands with its path, privileges and code, as in Proxmox itself."""
