"""What the user wrote: images, fleet and settings as frozen models, read from YAML with file and line in every error.

This room never looks at a node, never runs Ansible and changes nothing on disk.
"""
