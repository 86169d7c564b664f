"""What building again costs: nothing changed, the last layer changed, and everything, as ratios in one run.

    sudo .venv/bin/python benchmarks/layers.py [--runs 3] [--apps postgresql,nginx,build-essential,python3-venv]

The image is a server's: packages that take a while to install in a first layer, accounts and configuration in a second.
The node runs all the time, as a Proxmox does; base image and apt lists of the mirror are warm. Medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOLDSMITH = Path(sys.executable).parent / "goldsmith"
CONFIGURATION = """
- hosts: all
  become: true
  tasks:
    - name: Create the account
      ansible.builtin.user:
        name: "{{ template_user }}"
        uid: "{{ template_uid }}"
        password: "{{ template_password_hash }}"
    - name: Configure it
      ansible.builtin.copy:
        dest: /etc/motd
        content: "{{ greeting }}\\n"
        mode: "0644"
"""


class Bench:
    """A node and a project of its own."""

    def __init__(self, folder: Path, apps: str) -> None:
        self.project = folder / "project"
        self.image = self.project / "images" / "server"
        self.image.mkdir(parents=True)
        (self.image / "configuration.yml").write_text(CONFIGURATION)
        self.apps = apps
        self.env = {
            **os.environ,
            "GOLDSMITH_NODE_STATE": str(folder / "node"),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }

    def write(self, greeting: str) -> None:
        (self.image / "vars.yml").write_text(
            f"layers: [{{apps: [{self.apps}]}}, {{playbook: configuration.yml}}]\ngreeting: {greeting}\n"
        )

    def goldsmith(self, *words: str) -> float:
        begun = time.perf_counter()
        done = subprocess.run(
            [GOLDSMITH, *words], env=self.env, cwd=self.project, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--apps", default="postgresql,nginx,build-essential,python3-venv")
    given = parser.parse_args()
    measured: dict[str, list[float]] = {"everything": [], "the last layer": [], "nothing": []}
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        bench = Bench(Path(folder), given.apps)
        try:
            bench.write("warm")
            bench.goldsmith("node", "start")
            bench.goldsmith("build", "server")
            for number in range(given.runs):
                bench.write(f"first-{number}")
                measured["everything"].append(bench.goldsmith("build", "--refresh", "server"))
                bench.write(f"second-{number}")
                measured["the last layer"].append(bench.goldsmith("build", "server"))
                measured["nothing"].append(bench.goldsmith("build", "server"))
        finally:
            bench.goldsmith("node", "remove", "--yes")
    whole = statistics.median(measured["everything"])
    print(f"built again because of ...   seconds, medians of {given.runs} runs   of everything")
    for name, times in measured.items():
        print(f"  {name:<26} {statistics.median(times):8.2f} {statistics.median(times) / whole:28.2f}")


if __name__ == "__main__":
    main()
