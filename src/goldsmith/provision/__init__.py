"""Ansible: the playbook is run on a build guest, its tasks become events. The one door to ansible-runner.

This room is given an address and a key; it does not make guests.
"""
