"""Real containers on an embedded node of the tests' own: its state in a temporary directory, its own bridge and port.

Run as root: `pytest tests/lxc`. The base template is made once and kept in $GOLDSMITH_TEST_CACHE (by default
/var/cache/goldsmith-tests), because making it takes half a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI

from goldsmith.node import daemon
from goldsmith.node.network import remove_network
from goldsmith.node.settings import NodeSettings
from tests.lxc.guests import Guests, RunningNode

CACHE = Path(os.environ.get("GOLDSMITH_TEST_CACHE", "/var/cache/goldsmith-tests"))
