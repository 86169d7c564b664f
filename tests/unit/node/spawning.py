"""Stands for a server: forks a spawner for the state directory in argv[1] and then does nothing until it is ended."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from goldsmith.node.context import Node
from goldsmith.node.settings import NodeSettings
from goldsmith.node.spawner import fork_spawner
from goldsmith.node.tasks import TaskStore

if __name__ == "__main__":
    node = Node(NodeSettings(state=Path(sys.argv[1])))
    TaskStore(node.tasks).ensure()
    sys.stdout.write(f"{fork_spawner(node)}\n")
    sys.stdout.flush()
    signal.pause()
