"""How long `goldsmith --help` takes, and what it imports, beside an empty Python and one that imports only click.

    python benchmarks/startup.py [--runs 20]

The runs are interleaved, so that a busy machine slows all alike. Shown are medians and ratios to the empty Python.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import click'": [sys.executable, "-c", "import click"],
    "goldsmith --help": [sys.executable, "-m", "goldsmith.cli.main", "--help"],
    "goldsmith --version": [sys.executable, "-m", "goldsmith.cli.main", "--version"],
    "goldsmith build --help": [sys.executable, "-m", "goldsmith.cli.main", "build", "--help"],
    "goldsmith images --help": [sys.executable, "-m", "goldsmith.cli.main", "images", "--help"],
}
SHOWN = 8


def measure(argv: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def list_slow_imports() -> list[tuple[int, str]]:
    """What `goldsmith --help` imports, by own time in microseconds."""
    argv = [sys.executable, "-X", "importtime", *COMMANDS["goldsmith --help"][1:]]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stderr
    found = re.findall(r"^import time: +(\d+) \| +\d+ \| *(\S+)$", said, re.MULTILINE)
    return sorted(((int(own), name) for own, name in found), reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, argv in COMMANDS.items():
            times[name].append(measure(argv))
    medians = {name: statistics.median(values) for name, values in times.items()}
    empty = medians["python -c pass"]
    for name, median in medians.items():
        print(f"{name:<28} {median * 1000:7.1f} ms  {median / empty:5.1f} x")
    imports = list_slow_imports()
    print(f"\ngoldsmith --help imports {len(imports)} modules; the slowest:")
    for own, name in imports[:SHOWN]:
        print(f"{own / 1000:7.1f} ms  {name}")


if __name__ == "__main__":
    main()
