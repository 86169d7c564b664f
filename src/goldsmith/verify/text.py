"""Text that came out of a guest, made fit for a document."""

from __future__ import annotations

import re
from html import escape

COLORS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Terminals' colors and the like (ECMA-48, CSI)."""
FORBIDDEN = re.compile("[^\t\n\r -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold or advises against (section 2.2, Char), HTML likewise."""


def clean(text: str) -> str:
    """Return the text without colors; what no document may hold is shown as U+FFFD."""
    return FORBIDDEN.sub("\ufffd", COLORS.sub("", text))


def render_text(text: str) -> str:
    """Return the text as it stands in HTML, in an attribute too."""
    return escape(clean(text))
