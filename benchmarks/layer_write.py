"""How fast a container archive becomes a layer, as a ratio to plain compressors over the same bytes in the same run.

    python benchmarks/layer_write.py [--tree /usr/share | --archive FILE] [--runs 5]

`write_layer` does more than they do: it reads every header and writes it anew, and has two sha256 sums at its end. The
competitors run interleaved with it, so that a busy machine slows all of them; the table shows medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from goldsmith.artifacts.layers import write_layer

DUMP = ["tar", "-cpf", "-", "--sparse", "--numeric-owner", "--acls", "--xattrs", "--one-file-system"]


def run_program(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def layer(archive: Path, target: Path) -> None:
    with archive.open("rb") as source, target.open("wb") as sink:
        write_layer(source, sink)


def layer_from_pipe(tree: Path, target: Path) -> None:
    with (
        subprocess.Popen([*DUMP, "-C", tree, "."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar,
        target.open("wb") as sink,
    ):
        assert tar.stdout is not None
        write_layer(tar.stdout, sink)  # type: ignore[arg-type]


def piped(compressor: list[str], tree: Path, target: Path) -> None:
    with (
        subprocess.Popen([*DUMP, "-C", tree, "."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar,
        target.open("wb") as sink,
    ):
        subprocess.run(compressor, stdin=tar.stdout, stdout=sink, check=True)


def choose(archive: Path, tree: Path | None, target: Path) -> dict[str, Callable[[], None]]:
    """The contestants, the reference first."""
    contestants: dict[str, Callable[[], None]] = {
        "zstd -3": lambda: run_program("zstd", "-3", "-qf", archive, "-o", target),
        "zstd -3 -T0": lambda: run_program("zstd", "-3", "-T0", "-qf", archive, "-o", target),
        "write_layer": lambda: layer(archive, target),
    }
    if tree is not None:
        contestants |= {
            "tar | zstd -3": lambda: piped(["zstd", "-3", "-qc"], tree, target),
            "tar | gzip": lambda: piped(["gzip", "-c"], tree, target),
            "tar | write_layer": lambda: layer_from_pipe(tree, target),
        }
    return contestants


def measure(contestants: dict[str, Callable[[], None]], runs: int, target: Path) -> dict[str, tuple[float, int]]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    sizes: dict[str, int] = {}
    for _ in range(runs):
        for name, run in contestants.items():
            if name == "tar | gzip" and seconds[name]:
                continue  # once is enough: it takes longer than all others together
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
            sizes[name] = target.stat().st_size
    return {name: (statistics.median(times), sizes[name]) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path("/usr/share"))
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-benchmark-") as folder:
        archive, tree = options.archive, None
        if archive is None:
            archive, tree = Path(folder, "archive.tar"), options.tree
            with archive.open("wb") as sink:
                subprocess.run([*DUMP, "-C", tree, "."], stdout=sink, stderr=subprocess.DEVNULL, check=True)
        target = Path(folder, "target")
        results = measure(choose(archive, tree, target), options.runs, target)
        entries = int(subprocess.run(["tar", "-tf", archive], capture_output=True, check=True).stdout.count(b"\n"))
        print(f"{archive.stat().st_size / 1e6:.0f} MB, {entries} entries, median of {options.runs} runs")
    reference = results["zstd -3"][0]
    for name, (seconds, size) in results.items():
        print(f"{name:20} {seconds:7.2f} s   {seconds / reference:5.2f} x zstd -3   {size / 1e6:7.1f} MB")


if __name__ == "__main__":
    main()
