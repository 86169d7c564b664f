"""A firewall that drops by default (Docker's, ufw's) is passed, once, and left as it was. In a network of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SCRIPT = """
import sys
from pathlib import Path
from goldsmith.base.process import run
from goldsmith.node.network import ensure_network, remove_network
from goldsmith.node.settings import NodeSettings

settings = NodeSettings(state=Path(sys.argv[1]), host_bridge="gsfw0", network="10.97.0.1/16")
show = lambda: run(["iptables", "-S"]).stdout
run(["mount", "-t", "sysfs", "sysfs", "/sys"])
for chain in ("FORWARD", "INPUT"):
    run(["iptables", "-P", chain, "DROP"])
before = show()
try:
    ensure_network(settings)
    ensure_network(settings)
    during = show()
    assert run(["ip", "-br", "address", "show", "gsfw0"]).stdout.count("10.97.0.1/16") == 1
    assert run(["nft", "list", "table", "ip", "goldsmith_gsfw0"]).stdout.count("masquerade") == 1
finally:
    remove_network(settings)
    remove_network(settings)
assert show() == before, show()
sys.stdout.write(during)
"""


def test_a_dropping_firewall_is_passed(tmp_path: Path) -> None:
    command = ["unshare", "--net", "--mount", sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for rule in ("FORWARD -i gsfw0", "FORWARD -o gsfw0", "INPUT -i gsfw0 -p udp -m udp --dport 53", "--dport 67"):
        assert done.stdout.count(rule) == 1, done.stdout
