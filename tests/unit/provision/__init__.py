"""Tests of the room that runs Ansible."""
