"""What a replacement costs: the time without an answer, side by side with destroying and re-creating by hand; drift.

    sudo .venv/bin/python benchmarks/fleet.py [--runs 3] [--servers 10]

A server of the shipped image holds 200 MB of data in a volume; its port 22 is asked every 10 ms from outside. It is
replaced with goldsmith (swap, recreate, and swap of a server without data), and by hand as the text-book has it: stop,
vzdump to the node, destroy, create from the new template, start, unpack the data from the dump into the new guest.
Both end when the port answers, with the data there. Then a number of servers without data is replaced one by one, and
several at a time. All in one run on the embedded node; what counts are the ratios. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldsmith.cli.site import connect_embedded
from goldsmith.node.client import find_access
from goldsmith.node.context import Node
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.settings import NodeSettings
from goldsmith.pve.client import NodeApi, open_pve
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount, Net

PROJECT = Path(__file__).parents[1]
GOLDSMITH = Path(sys.executable).parent / "goldsmith"
MEGABYTES = 200
FILL = f"head -c {MEGABYTES}M /dev/urandom > /srv/data/blob && sha256sum /srv/data/blob > /srv/data/sum"
LOOK = "sha256sum --check --quiet /srv/data/sum"
VMID = 700


class Bench:
    """A node and a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.state, self.project = folder / "node", folder / "project"
        (self.project / "inventory").mkdir(parents=True)
        shutil.copytree(PROJECT / "images", self.project / "images")
        self.env = {
            **os.environ,
            "GOLDSMITH_NODE_STATE": str(self.state),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }
        self.number = 0
        self.version = ""

    def goldsmith(self, *words: str) -> str:
        done = subprocess.run(
            [GOLDSMITH, *words], env=self.env, cwd=self.project, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def address(self) -> str:
        """Return an address that nobody has: from the half of the network that is not given out."""
        self.number += 1
        network = NodeSettings.load(self.state).network.partition("/")[0].rpartition(".0.1")[0]
        return f"{network}.{self.number // 200 + 2}.{self.number % 200 + 10}"

    def declare(self, **servers: dict[str, Any]) -> None:
        image, _, tag = self.version.partition(":")
        hosts = {name: {"image": image, "version": tag, **variables} for name, variables in servers.items()}
        (self.project / "inventory" / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))

    @contextmanager
    def open_node(self) -> Iterator[NodeApi]:
        access = find_access(self.state)
        assert access is not None
        with open_pve(connect_embedded(access)) as pve:
            yield pve.node(access.address.node)

    def attach(self, vmid: int, command: str) -> str:
        argv = [
            "lxc-attach",
            "-P",
            find_lxc_path(self.state),
            "-n",
            str(vmid),
            "--clear-env",
            "--",
            "sh",
            "-c",
            command,
        ]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def find_lxc_path(state: Path) -> str:
    return str(Runtime(Node(NodeSettings.load(state)), 0).lxcpath)


class Probe:
    """Asks a port again and again; the longest time without an answer counts."""

    def __init__(self, address: str) -> None:
        self.address, self.longest, self.last = address, 0.0, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._done.wait(0.01):
            try:
                socket.create_connection((self.address, 22), 0.2).close()
            except OSError:
                continue
            now = time.monotonic()
            self.longest = max(self.longest, now - self.last if self.last else 0.0)
            self.last = now

    def __enter__(self) -> Probe:
        self._thread.start()
        self.wait()
        return self

    def wait(self) -> None:
        """Wait for an answer that comes after this moment."""
        begun = time.monotonic()
        while self.last < begun:
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._done.set()
        self._thread.join()


def replace_by_hand(bench: Bench, address: str, template: str) -> Callable[[], None]:
    """Make a server by hand; return what replaces it by hand."""

    def create(node: NodeApi) -> None:
        net = Net(bridge="vmbr0", ip=f"{address}/16", gateway=None)
        mount = Mount("local:2", "/srv/data", backup=True)
        spec = ContainerSpec(
            vmid=VMID, ostemplate=template, rootfs=Mount("local:8"), mounts=(mount,), nets=(net,), hostname="byhand",
            memory=512,
        )  # fmt: skip
        node.tasks.wait(node.guests.create_container(spec))

    with bench.open_node() as node:
        create(node)
        node.tasks.wait(node.guests.start(VMID))

    def replace() -> None:
        with bench.open_node() as node:
            node.tasks.wait(node.guests.shutdown(VMID, timeout=60, force_stop=True))
            backup = node.backups.create(VMID, storage="plain", mode="stop", compress="zstd")
            node.tasks.wait(node.guests.destroy(VMID, force=True))
            create(node)
            node.tasks.wait(node.guests.start(VMID))
            inside = ["lxc-attach", "-P", find_lxc_path(bench.state), "-n", str(VMID), "--"]
            with subprocess.Popen(["zstd", "-dc", backup.path], stdout=subprocess.PIPE) as source:
                subprocess.run([*inside, "tar", "-x", "-C", "/", "./srv/data"], stdin=source.stdout, check=True)
            node.storage.delete_volume(backup.volid)

    return replace


def measure(address: str, work: Callable[[], object]) -> float:
    with Probe(address) as probe:
        work()
    return probe.longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--servers", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            bench.goldsmith("node", "start")
            bench.version = bench.goldsmith("build", "lxc").splitlines()[0]
            report_outages(bench, arguments.runs)
            report_rolling(bench, arguments.servers)
        finally:
            bench.goldsmith("node", "remove", "--yes")


def report_outages(bench: Bench, runs: int) -> None:
    addresses = {name: bench.address() for name in ("swap", "recreate", "plain", "byhand")}
    data = {"data": [{"path": "/srv/data", "volume": "local:2"}], "backup": {"storage": "plain"}}
    checks = {"checks": [{"port": 22}]}
    bench.declare(
        swap={"address": f"{addresses['swap']}/16", **data, **checks},
        recreate={"address": f"{addresses['recreate']}/16", "strategy": "recreate", **data, **checks},
        plain={"address": f"{addresses['plain']}/16", **checks},
    )
    bench.goldsmith("deploy", "--yes", "--untested")
    with bench.open_node() as node:
        template = next(one.volid for one in node.storage.list_content("plain", "vztmpl") if "golden" in one.volid)
        vmids = {guest.name: guest.vmid for guest in node.guests.list_guests()}
    by_hand = replace_by_hand(bench, addresses["byhand"], template)
    for name in ("swap", "recreate"):
        bench.attach(vmids[name], FILL)
    bench.attach(VMID, FILL)
    works: dict[str, Callable[[], object]] = {
        "by hand": by_hand,
        **{name: (lambda name=name: rebuild(bench, name)) for name in ("recreate", "swap", "plain")},
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            seconds[name].append(measure(addresses["byhand" if name == "by hand" else name], work))
    look_at_data(bench)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"seconds without an answer at port 22, {MEGABYTES} MB of data; medians of {runs} runs, and to `by hand`")
    titles = {"plain": "swap, no data"}
    for name, median in medians.items():
        print(f"  {titles.get(name, name):<16} {median:7.2f}  {median / medians['by hand']:5.2f}")
    begun = time.monotonic()
    bench.goldsmith("drift", "plain")
    print(f"  drift of one server, the command as a whole: {time.monotonic() - begun:.2f} s")


def rebuild(bench: Bench, name: str) -> None:
    bench.goldsmith("rebuild", name, "--yes", "--untested")


def look_at_data(bench: Bench) -> None:
    """The data is whole, or nothing that was measured counts."""
    with bench.open_node() as node:
        running = {guest.name: guest.vmid for guest in node.guests.list_guests() if guest.running}
    for name in ("swap", "recreate", "byhand"):
        bench.attach(running[name], LOOK)


def report_rolling(bench: Bench, count: int) -> None:
    servers = {
        f"web{number}": {"address": f"{bench.address()}/16", "checks": [{"port": 22}]} for number in range(count)
    }
    bench.declare(**servers)
    bench.goldsmith("deploy", "--yes", "--untested", "--serial", "4")
    took = {}
    for serial in (1, 4):
        begun = time.monotonic()
        bench.goldsmith("rebuild", *servers, "--yes", "--untested", "--serial", str(serial))
        took[serial] = time.monotonic() - begun
    print(f"{count} servers without data rolled, seconds, and to one at a time")
    for serial, seconds in took.items():
        print(f"  --serial {serial:<6} {seconds:7.2f}  {seconds / took[1]:5.2f}")


if __name__ == "__main__":
    main()
