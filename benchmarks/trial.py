"""How long `goldsmith test` takes for the shipped image, from the stored version to its verdict, and where it goes.

    sudo .venv/bin/python benchmarks/trial.py [--runs 3]

The boot is a guest's own (from the order to start until it has settled); own tests and hygiene are what the checks say
they took. The rest is ours: finding the template, making guests and removing them, reaching them, storing the verdict;
the node is started and stopped before and after, outside of what is counted, as `goldsmith node start` does. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
GOLDSMITH = Path(sys.executable).parent / "goldsmith"


class Bench:
    """A node and a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        shutil.copytree(PROJECT / "images", self.project / "images")
        self.env = {
            **os.environ,
            "GOLDSMITH_NODE_STATE": str(folder / "node"),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }

    def goldsmith(self, *words: str) -> str:
        done = subprocess.run(
            [GOLDSMITH, *words], env=self.env, cwd=self.project, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def test(self) -> dict[str, float]:
        events = [json.loads(line) for line in self.goldsmith("--json", "test", "lxc").splitlines()]
        steps = {event["step"]: event["seconds"] for event in events if event["event"] == "step-finished"}
        tested = next(event for event in events if event["event"] == "version-tested")
        checks = [event for event in events if event["event"] == "test-finished"]
        boot = next(event["seconds"] for event in checks if event["test"] == "boot")
        whole = tested["seconds"] + steps["remove the test guests"]
        return {
            "whole": whole,
            "boot": boot,
            "own tests": sum_own(checks),
            "hygiene": steps["hygiene"],
            **{f"step: {name}": seconds for name, seconds in steps.items()},
            "overhead": whole - boot - sum_own(checks),
            "overhead without hygiene": whole - boot - sum_own(checks) - steps["hygiene"],
        }


def sum_own(checks: list[dict[str, Any]]) -> float:
    return sum(float(check["seconds"]) for check in checks if "::" in check["test"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            bench.goldsmith("node", "start")
            bench.goldsmith("build", "lxc")
            results = [bench.test() for _ in range(runs)]
        finally:
            bench.goldsmith("node", "remove", "--yes")
    print(f"seconds, medians of {runs} runs")
    for name in results[0]:
        print(f"  {name:<30} {statistics.median(result[name] for result in results):6.2f}")


if __name__ == "__main__":
    main()
