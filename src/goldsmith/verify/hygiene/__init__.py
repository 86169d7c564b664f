"""The built-in checks: one script collects everything in the guest, pure functions judge what it has found.

It never changes the guest; only asking for upgrades writes there, into a folder of its own below /tmp.
"""
