"""What sharing downloads saves: the same packages fetched by a guest itself, through us for the first time, and again.

    sudo .venv/bin/python benchmarks/downloads.py [--runs 3] [--rate 12.5] [--apps postgresql,nginx,build-essential]

A guest's apt reads its lists and fetches packages, without installing them. The mirror is the machine's own, behind a
relay that lets `--rate` MB through in a second (12.5 is a line of 100 Mbit/s; 0: as fast as it comes), for the guest
itself and for us alike. Makes a container on an embedded node of its own, with the base template from the tests' cache.
The three ways are interleaved; the table shows medians, and what the mirror sent.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.lxc.conftest import ensure_template
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.subjects import open_guest

from goldsmith.base.events import Events
from goldsmith.node.mirror import find_mirror
from goldsmith.node.settings import NodeSettings
from goldsmith.provision.downloads.rules import Url, parse_url
from goldsmith.provision.downloads.sharing import open_sharing
from goldsmith.provision.downloads.store import Store
from goldsmith.pve.ssh import SshShell, open_ssh_shell

NAME = "mirror.example.org"
PIECE = 1 << 14
WAYS = ("by itself", "shared, the first", "shared, again")


class Relay:
    """A mirror of a given speed."""

    def __init__(self, address: str, upstream: str, rate: float) -> None:
        self.address, self.upstream, self.rate = address, upstream, rate
        self.sent = 0
        self._free_at = 0.0
        self._lock = threading.Lock()

    def connect(self, _url: Url) -> socket.socket:
        """As `connect_mirror`: this machine's own addresses are out of its reach."""
        return socket.create_connection((self.address, 80), timeout=30)

    def pay(self, size: int) -> None:
        """Wait until `size` more bytes may go."""
        with self._lock:
            self.sent += size
            self._free_at = max(self._free_at, time.monotonic()) + (size / self.rate / 1e6 if self.rate else 0)
            pause = self._free_at - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    @contextmanager
    def serve(self) -> Iterator[None]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                upstream = http.client.HTTPConnection(relay.upstream, timeout=30)
                upstream.request(self.command, self.path, headers={"Accept-Encoding": "identity"})
                answer = upstream.getresponse()
                self.send_response_only(answer.status, answer.reason)
                for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Cache-Control"):
                    if value := answer.headers.get(name):
                        self.send_header(name, value)
                self.end_headers()
                while piece := answer.read(PIECE):
                    relay.pay(len(piece))
                    self.wfile.write(piece)
                upstream.close()

            do_HEAD = do_GET  # noqa: N815

        with ThreadingHTTPServer((self.address, 80), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


def run(shell: SshShell, script: str) -> None:
    shell.run(["sh", "-ec", script], timeout=600)


class Bench:
    """A guest whose mirror is the relay."""

    def __init__(self, shell: SshShell, relay: Relay, folder: Path, apps: list[str]) -> None:
        self.shell, self.relay, self.folder, self.apps = shell, relay, folder, apps

    def measure(self, way: str) -> tuple[float, int]:
        """Return the seconds, and the bytes that the mirror sent."""
        store = Store(self.folder / "store")
        if way == "shared, the first":
            shutil.rmtree(store.directory, ignore_errors=True)
        run(self.shell, "apt-get clean; rm -rf /var/lib/apt/lists/*")
        before, begun = self.relay.sent, time.perf_counter()
        sharing = open_sharing(self.shell, store, Events(), self.relay.connect)
        with nullcontext() if way == "by itself" else sharing:
            packages = " ".join(self.apps)
            run(self.shell, "apt-get -q update; "
                f"apt-get -q -y --no-install-recommends --download-only install {packages}")  # fmt: skip
        return time.perf_counter() - begun, self.relay.sent - before


@contextmanager
def open_bench(folder: Path, rate: float, apps: list[str]) -> Iterator[Bench]:
    number = os.getpid() % 100
    settings = NodeSettings(state=folder / "node", port=19000 + number, host_bridge=f"gsb{os.getpid() % 100000}",
                            network=f"10.{100 + number}.0.1/16", disk_size=20 << 30)  # fmt: skip
    node = RunningNode(settings)
    url = parse_url(find_mirror().main)
    assert url is not None, "the machine's own mirror must be one with http"
    relay = Relay(str(settings.gateway), url.host, rate)
    try:
        node.start()
        node.template = ensure_template(node)
        opened = open_guest(Guests(node), folder)
        with relay.serve(), open_ssh_shell(opened.subject.access) as shell:
            run(shell, f"echo '{settings.gateway} {NAME}' >> /etc/hosts; cd /etc/apt; "
                f"sed -i 's#http://{url.host}/#http://{NAME}/#; /security/d' sources.list")  # fmt: skip
            yield Bench(shell, relay, folder, apps)
    finally:
        for guest in node.lxc.get():
            node.do(node.lxc(int(guest["vmid"])).delete(force=1, purge=1))
        node.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=12.5)
    parser.add_argument("--apps", default="postgresql,nginx,build-essential")
    given = parser.parse_args()
    measured: dict[str, list[tuple[float, int]]] = {way: [] for way in WAYS}
    with (
        tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder,
        open_bench(Path(folder), given.rate, given.apps.split(",")) as bench,
    ):
        for _ in range(given.runs):
            for way in WAYS:
                measured[way].append(bench.measure(way))
    alone = statistics.median(seconds for seconds, _ in measured[WAYS[0]])
    print(f"{'':<20} seconds, medians of {given.runs} runs   of by itself   MB from the mirror")
    for way, results in measured.items():
        seconds, sent = (statistics.median(values) for values in zip(*results, strict=True))
        print(f"{way:<20} {seconds:28.2f} {seconds / alone:14.2f} {sent / 1e6:20.1f}")


if __name__ == "__main__":
    main()
