"""Which commit a definition was built from. Outside a git repository, or without git, that is nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from goldsmith.artifacts.record import GitState
from goldsmith.base.errors import ProgramError
from goldsmith.base.process import run


def read_git_state(directory: Path) -> GitState | None:
    """Return the commit of the working tree that a directory lies in, `dirty` when something in it differs."""
    git = ["git", "-c", "core.fsmonitor=false", "-C", str(directory)]
    try:
        commit, seconds = run([*git, "show", "--no-patch", "--format=%H %ct", "HEAD"]).stdout.split()
        status = run([*git, "status", "--porcelain", "--", "."]).stdout.strip()
    except ProgramError:
        return None
    return GitState(commit, bool(status), datetime.fromtimestamp(int(seconds), UTC))
