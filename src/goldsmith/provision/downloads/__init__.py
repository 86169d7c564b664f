"""Packages that a build guest downloads are shared between builds: a proxy for its apt, and a store behind it.

The proxy listens on a socket that only we can open, and the guest reaches it through the ssh connection to it. It never
decides what a guest may install: apt checks each file as always, and without the proxy goes its own way.
"""
