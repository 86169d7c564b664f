"""Embedded nodes for these tests: only the API, so that neither root nor a network is needed."""

from __future__ import annotations

import socket
from pathlib import Path

from goldsmith.node.settings import NodeSettings


def make_settings(state: Path) -> NodeSettings:
    """Settings of a node without guests, on a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return NodeSettings(state=state, port=port, with_guests=False)
