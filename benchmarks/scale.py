"""How long it takes to look at a big cluster: the one list that planning uses, beside a call for each guest.

    python benchmarks/scale.py [--nodes 100] [--guests 5000] [--runs 5]

The cluster is simulated (fakepve), on this machine: there is no network between. Shown are medians, and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.contract.fakes import fill_cluster, open_site, serve_node

from goldsmith.build.facts import Site, read_guest_facts


def read_every_config(site: Site) -> None:
    for guest in site.pve.list_guests():
        site.pve.node(guest.node).guests.get_config(guest.vmid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--guests", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve_node(Path(folder)) as node, open_site(node) as site:
        fill_cluster(node, given.nodes, given.guests)
        site.pve.version()

        def measure(work: Callable[[Site], object], runs: int) -> tuple[float, int]:
            times: list[float] = []
            node.arm(None)
            for _ in range(runs):
                begun = time.perf_counter()
                work(site)
                times.append(time.perf_counter() - begun)
            return statistics.median(times), len(node.calls) // runs

        one, one_calls = measure(read_guest_facts, given.runs)
        each, each_calls = measure(read_every_config, 1)
    print(f"one list             {one:8.3f} s  {one_calls:6} calls")
    print(f"each configuration   {each:8.3f} s  {each_calls:6} calls  {each / one:.0f} x")


if __name__ == "__main__":
    main()
