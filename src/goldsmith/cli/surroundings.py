"""What counts besides an image's folder when it is read."""

from __future__ import annotations

import os
from pathlib import Path

from goldsmith.cli.options import Settings
from goldsmith.definition.load import Surroundings


def make_surroundings(settings: Settings) -> Surroundings:
    """Return what counts besides an image's folder."""
    return Surroundings(dict(os.environ), Path.home(), settings.vault_password_file)
