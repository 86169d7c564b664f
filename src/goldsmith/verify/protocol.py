"""What a session and our plugin in its process have agreed upon. Imports nothing: pytest is to start quickly."""

from __future__ import annotations

SHARED = "shared"
"""The group of all tests that are not destructive."""
FILE_KEY = "goldsmith-file"
"""The one key of a mapping that stands for a secret: its value is the path of the file that holds it."""
DIRECT = "direct"
"""Scheme of testinfra's host specification for guests that are entered through their node."""
SETTINGS = "GOLDSMITH_TEST_SETTINGS"
"""The environment variable that tells our plugin its settings' file."""
STOP_GRACE = 10.0
"""Seconds that a test has beyond its limit to clean up after itself."""
