"""The repository: versions as OCI images in a directory, what they were made of, and templates made of them.

This room never talks to a node.
"""
