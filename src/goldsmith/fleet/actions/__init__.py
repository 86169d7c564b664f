"""How each goal is reached: one module for guests, data, backups and checks. Each looks first, and may be called again.

Nothing here decides what is to be done; `goals` has said so.
"""
