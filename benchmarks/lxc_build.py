"""How long `goldsmith build images/lxc` takes, as a ratio to the same done by hand, from the same base and playbook.

    sudo .venv/bin/python benchmarks/lxc_build.py [--runs 3] [--keep-state DIR]

By hand means: unpack the base, lxc-start, plain ansible-playbook over ssh, lxc-stop, tar and gzip. goldsmith does more
in its time: it starts and stops its node, checks the playbook, seals, stores a version with its record, and places the
template, and it keeps the first of its two layers. Both runs are interleaved; the table shows medians. The base image
is made before the clock runs.
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
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PASSWORD_HASH = "$6$rounds=5000$saltsaltsalt$" + "x" * 86
Timings = dict[str, float]


def run(*argv: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, argv))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


class Clock:
    """Laps by name."""

    def __init__(self) -> None:
        self.laps: Timings = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now


class Bench:
    """A node of its own (only its base image and its bridge are used by hand) and a copy of the shipped image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        shutil.copytree(PROJECT / "images", self.project / "images")
        self.env = {
            "GOLDSMITH_NODE_STATE": str(folder / "node"),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")

    def goldsmith(self, *words: str) -> None:
        run(BIN / "goldsmith", *words, env=self.env, cwd=self.project)

    def base(self) -> Path:
        """There only while the node runs."""
        return next((self.folder / "node" / "storage" / "template" / "cache").glob("debian-12-standard_*.tar.zst"))

    def settings(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "node" / "settings.json").read_text())
        return found

    def ours(self) -> tuple[Timings, int]:
        clock = Clock()
        self.goldsmith("build", "--refresh", "lxc")
        clock.lap("whole")
        made = (self.folder / "node/plain/template/cache").glob("debian-12-golden-*")
        newest = max(made, key=lambda path: path.stat().st_mtime)
        return clock.laps, newest.stat().st_size

    def by_hand(self) -> tuple[Timings, int]:
        """Needs the node's bridge, so the node runs meanwhile; it does nothing."""
        self.goldsmith("node", "start")
        place = Path(tempfile.mkdtemp(dir=self.folder))
        clock = Clock()
        try:
            return self._by_hand(place, clock)
        finally:
            subprocess.run(["lxc-stop", "-P", place, "-n", "naive", "-k"], capture_output=True, check=False)
            shutil.rmtree(place, ignore_errors=True)
            self.goldsmith("node", "stop")

    def _by_hand(self, place: Path, clock: Clock) -> tuple[Timings, int]:
        rootfs, address = self._unpack(place)
        clock.lap("unpack")
        run("lxc-start", "-P", place, "-n", "naive")
        self._await(address)
        clock.lap("start, ssh")
        run(BIN / "ansible-playbook", "-i", f"{address},", "-u", "root", "--private-key", self.folder / "key", "-e",
            f"@{self._vars(place)}", self.project / "images/lxc/playbook.yml",
            env={"ANSIBLE_HOST_KEY_CHECKING": "False", "HOME": str(self.folder)})  # fmt: skip
        clock.lap("ansible")
        run("lxc-stop", "-P", place, "-n", "naive")
        clock.lap("stop")
        target = place / "template.tar.gz"
        run("sh", "-c", f"tar -C {rootfs} --numeric-owner --acls --xattrs --one-file-system -cpf - . | gzip > {target}")
        clock.lap("tar, gzip")
        clock.laps["whole"] = sum(clock.laps.values())
        return clock.laps, target.stat().st_size

    def _unpack(self, place: Path) -> tuple[Path, str]:
        settings = self.settings()
        gateway = settings["network"].partition("/")[0]
        address = f"{gateway.rpartition('.')[0]}.77"
        rootfs = place / "naive" / "rootfs"
        rootfs.mkdir(parents=True)
        run("tar", "--zstd", "--numeric-owner", "-xpf", self.base(), "-C", rootfs)
        (rootfs / "root" / ".ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.folder / "key.pub", rootfs / "root/.ssh/authorized_keys")
        (rootfs / "etc/resolv.conf").write_text(f"nameserver {gateway}\n")
        run("ssh-keygen", "-A", "-f", rootfs)
        config = {
            "lxc.uts.name": "naive", "lxc.rootfs.path": f"dir:{rootfs}", "lxc.apparmor.profile": "unconfined",
            "lxc.include": "/usr/share/lxc/config/common.conf", "lxc.net.0.type": "veth", "lxc.net.0.flags": "up",
            "lxc.net.0.link": settings["host_bridge"], "lxc.net.0.ipv4.address": f"{address}/16",
            "lxc.net.0.ipv4.gateway": gateway,
        }  # fmt: skip
        (place / "naive" / "config").write_text("".join(f"{key} = {value}\n" for key, value in config.items()))
        return rootfs, address

    def _vars(self, place: Path) -> Path:
        values = yaml.safe_load((self.project / "images/lxc/vars.yml").read_text())
        values |= {"template_password_hash": PASSWORD_HASH, "template_ssh_key": (self.folder / "key.pub").read_text()}
        file = place / "vars.yml"
        file.write_text(yaml.safe_dump(values))
        return file

    def _await(self, address: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection((address, 22), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the guest by hand did not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-", dir="/var/tmp") as folder:
        bench = Bench(Path(folder))
        try:
            bench.goldsmith("build", "lxc")  # makes the base image, and warms every cache
            rounds = [(bench.by_hand(), bench.ours()) for _ in range(arguments.runs)]
        finally:
            bench.goldsmith("node", "remove", "--yes")
    report(rounds)


def report(rounds: list[tuple[tuple[Timings, int], tuple[Timings, int]]]) -> None:
    hand = statistics.median(naive[0]["whole"] for naive, _ in rounds)
    ours = statistics.median(mine[0]["whole"] for _, mine in rounds)
    for name in rounds[0][0][0]:
        print(f"by hand, {name:<12} {statistics.median(naive[0][name] for naive, _ in rounds):6.1f} s")
    print(f"goldsmith build       {ours:6.1f} s   ratio {ours / hand:.2f} (aim: 0.40)")
    sizes = statistics.median(naive[1] for naive, _ in rounds), statistics.median(mine[1] for _, mine in rounds)
    print(f"size by hand {sizes[0] / 1e6:.0f} MB, goldsmith {sizes[1] / 1e6:.0f} MB, ratio {sizes[1] / sizes[0]:.2f}")


if __name__ == "__main__":
    main()
