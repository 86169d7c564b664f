"""Which commit a definition was built from. Outside a git repository, or without git, that is nothing."""

from __future__ import annotations

from pathlib import Path

from goldsmith.artifacts.record import GitState
from goldsmith.base.errors import ProgramError
from goldsmith.base.process import run


def read_git_state(directory: Path) -> GitState | None:
    """Return the commit of the working tree that a directory lies in, `dirty` when something in it differs."""
    git = ["git", "-c", "core.fsmonitor=false", "-C", str(directory)]
    try:
        commit = run([*git, "rev-parse", "--verify", "HEAD"]).stdout.strip()
        status = run([*git, "status", "--porcelain", "--", "."]).stdout.strip()
    except ProgramError:
        return None
    return GitState(commit, bool(status))
