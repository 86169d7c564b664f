"""One file for what belongs together of a build's steps: how each is done, and how it is undone.

An action takes its step and the running build, and returns a short word on what it came to.
"""
