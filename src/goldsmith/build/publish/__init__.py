"""From the repository to the storages of nodes: which version goes where, what lies there, what may be removed again.

Never overwrites, and never removes what it cannot prove to be a version of ours.
"""
