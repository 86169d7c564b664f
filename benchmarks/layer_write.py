"""From a dump to a stored version, and from a version to a template, as ratios to plain programs in the same run.

    .venv/bin/python benchmarks/layer_write.py [--template FILE.tar.zst | --tree DIRECTORY] [--runs 5]

The reference of storing is `tar | zstd -3` of the tree that is in the dump. Storing does more: it reads the dump
(plain, or packed by vzdump), divides it into layers by the packages in it, has two sha256 sums of each, and everything
is synced to the disk before the version is there. The reference of exporting is `cp` of a file as large as the
template, synced. The contestants run interleaved, so that a busy machine slows all of them; the table shows medians, of
the processors' time too. As root, a template's owners are kept.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from goldsmith.artifacts.export import write_template
from goldsmith.artifacts.repository import NewVersion, open_repository

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.unit.artifacts.making import make_record

DUMP = ["tar", "-cpf", "-", "--sparse", "--numeric-owner", "--acls", "--xattrs", "--one-file-system"]
CACHE = Path("/var/cache/goldsmith-tests")
Contestants = dict[str, Callable[[], int]]
"""What is measured, by name; each returns the size of what it has made."""


def run_program(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def pipe_to_zstd(tree: Path, target: Path) -> int:
    with (
        subprocess.Popen([*DUMP, "-C", tree, "."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar,
        target.open("wb") as sink,
    ):
        subprocess.run(["zstd", "-3", "-qc"], stdin=tar.stdout, stdout=sink, check=True)
    return target.stat().st_size


def pack(archive: Path, target: Path) -> int:
    run_program("zstd", "-3", "-qf", archive, "-o", target)
    return target.stat().st_size


def store(archive: Path, folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    with open_repository(folder).open_writer() as writer, archive.open("rb") as dump:
        return writer.put(NewVersion(name="debian", layers=writer.add_layers(dump), record=make_record())).size


def export(folder: Path, target: Path) -> int:
    target.unlink(missing_ok=True)
    repository = open_repository(folder)
    return write_template(repository, repository.get_version("debian"), target).size


def copy(source: Path, target: Path) -> int:
    target.unlink(missing_ok=True)
    run_program("cp", source, target)
    run_program("sync", target)
    return target.stat().st_size


def choose(folder: Path, tree: Path) -> tuple[Contestants, Contestants]:
    """What stores and what exports, each with its reference first."""
    plain, packed, target, stored = (folder / name for name in ("dump.tar", "dump.tar.zst", "target", "stored"))
    with plain.open("wb") as sink:
        subprocess.run([*DUMP, "-C", tree, "."], stdout=sink, stderr=subprocess.DEVNULL, check=True)
    pack(plain, packed)
    store(plain, folder / "kept")
    export(folder / "kept", folder / "template")
    storing: Contestants = {
        "tar | zstd -3": lambda: pipe_to_zstd(tree, target),
        "zstd -3 of the dump": lambda: pack(plain, target),
        "dump to version": lambda: store(plain, stored),
        "packed dump to version": lambda: store(packed, stored),
    }
    exporting: Contestants = {
        "cp": lambda: copy(folder / "template", folder / "copy"),
        "version to template": lambda: export(folder / "kept", folder / "exported"),
    }
    return storing, exporting


def read_processor_time() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(contestants: Contestants, runs: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    sizes: dict[str, int] = {}
    for _ in range(runs):
        for name, run in contestants.items():
            begun, busy = time.perf_counter(), read_processor_time()
            sizes[name] = run()
            times[name].append((time.perf_counter() - begun, read_processor_time() - busy))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    reference = next(iter(contestants))
    for name, (seconds, busy) in medians.items():
        ratio = f"{seconds / medians[reference][0]:5.2f} x {reference}"
        print(f"{name:24} {seconds:6.2f} s   {busy:6.2f} s of processors   {ratio}   {sizes[name] / 1e6:7.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", type=Path, help="a container template; by default that of the tests' cache")
    parser.add_argument("--tree", type=Path, help="a directory instead")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldsmith-benchmark-") as name:
        folder, tree = Path(name), options.tree
        if tree is None:
            tree = folder / "tree"
            tree.mkdir()
            run_program("tar", "-xpf", options.template or sorted(CACHE.glob("*.tar.zst"))[-1], "-C", tree)
        storing, exporting = choose(folder, tree)
        entries = sum(1 for _ in tree.rglob("*"))
        print(f"{(folder / 'dump.tar').stat().st_size / 1e6:.0f} MB, {entries} entries, median of {options.runs} runs")
        measure(storing, options.runs)
        measure(exporting, options.runs)


if __name__ == "__main__":
    main()
