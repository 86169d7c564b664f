"""One file per step of a build: what it does, and what it registers to undo it."""
