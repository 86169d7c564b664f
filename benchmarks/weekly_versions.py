"""How much room twelve weekly versions of one image take: in a repository, as plain archives, in borg, in casync.

    sudo .venv/bin/python benchmarks/weekly_versions.py [--template FILE.tar.zst] [--weeks 12] [--upgrades 1] [--seed 1]

The first version is a real template. Each week the image is built anew: some source packages are upgraded, and all that
no package owns has a new time. Upgraded are packages that really have been (their version says so: 2.36-9+deb12u9), the
more often the more likely, as a new build of the same source would change them: files get new times, of programs and
libraries every page with a chance of one in two, documents and dpkg's notes change, Python's bytecode has its source's
time; other texts stay. One in a week is a little more than the real rate: for the standard template of Debian 12 those
numbers have added up to 130 in 178 weeks.

Borg and casync cut files into pieces by their content, wherever they lie; it needs them to read a version back. What a
repository holds is read by tar.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from goldsmith.artifacts.archive import Times
from goldsmith.artifacts.owners import find_owners
from goldsmith.artifacts.repository import NewVersion, Repository, open_repository

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.unit.artifacts.making import make_record

DUMP = ["tar", "-cpf", "-", "--sparse", "--numeric-owner", "--acls", "--xattrs", "--one-file-system"]
CACHE = Path("/var/cache/goldsmith-tests")
WEEK = 7 * 24 * 3600
PAGE = 4096


class Tree:
    """The image's root file system, which changes from week to week."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._root, self._chance = root, chance
        self._now = int(max(path.lstat().st_mtime for path in root.rglob("*")))
        names = {os.fsencode(path.relative_to(root)): path for path in root.rglob("*") if not is_folder(path)}
        targets = {name: os.fsencode(path.readlink()) for name, path in names.items() if path.is_symlink()}
        found = find_owners(names, targets, lambda name: names[name].read_bytes())
        self._files: dict[str, list[Path]] = {}
        for name, path in names.items():
            self._files.setdefault(found.files.get(name, b"").decode(), []).append(path)
        self._updates = {source.decode(): 0 for source in found.updated if source.decode() in self._files}
        self._count_updates()

    def _count_updates(self) -> None:
        status = (self._root / "var/lib/dpkg/status").read_text()
        for stanza in status.split("\n\n"):
            fields = dict(re.findall(r"^(Package|Source|Version): (\S+)", stanza, re.MULTILINE))
            source = fields.get("Source", fields.get("Package", ""))
            if source in self._updates and (number := re.search(r"deb\d+u(\d+)", fields["Version"])):
                self._updates[source] = max(self._updates[source], int(number[1]))

    def pass_week(self, upgrades: int) -> list[str]:
        """Build the image anew a week later; return what has been upgraded."""
        self._now += WEEK
        chosen: set[str] = set()
        while len(chosen) < min(upgrades, len(self._updates)):
            chosen.update(self._chance.choices(list(self._updates), list(self._updates.values())))
        for source in sorted(chosen):
            for path in self._files[source]:
                self._upgrade(path)
        status = self._root / "var/lib/dpkg/status"
        status.with_name("status-old").write_bytes(status.read_bytes())
        status.write_text(status.read_text() + "".join(f"X-Upgraded: {source} {self._now}\n" for source in chosen))
        for path in self._files[""]:
            os.utime(path, (self._now, self._now), follow_symlinks=False)
        return sorted(chosen)

    def _upgrade(self, path: Path) -> None:
        if path.is_file() and not path.is_symlink():
            data = bytearray(path.read_bytes())
            if data.startswith(b"\x7fELF"):
                for start in range(0, len(data) - 8, PAGE):
                    if self._chance.random() < 0.5:
                        data[start : start + 8] = self._chance.randbytes(8)
            elif path.suffix == ".pyc":
                data[8:12] = self._now.to_bytes(4, "little")
            elif "usr/share/doc" in str(path) or path.suffix in (".md5sums", ".gz"):
                data[-8:] = self._chance.randbytes(8)
            path.write_bytes(data)
        os.utime(path, (self._now, self._now), follow_symlinks=False)
        os.utime(path.parent, (self._now, self._now))


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def measure(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def dump(tree: Path, target: Path) -> None:
    with target.open("wb") as sink:
        subprocess.run([*DUMP, "-C", tree, "."], stdout=sink, check=True)


def keep_in_repository(tree: Path, folder: Path, _week: int) -> None:
    repository: Repository = open_repository(folder)
    dump(tree, folder.with_suffix(".tar"))
    with repository.open_writer() as writer, folder.with_suffix(".tar").open("rb") as stream:
        writer.put(NewVersion(name="debian", layers=writer.add_layers(stream, times=Times()), record=make_record()))


def keep_archive(tree: Path, folder: Path, week: int) -> None:
    folder.mkdir(exist_ok=True)
    with (
        subprocess.Popen([*DUMP, "-C", tree, "."], stdout=subprocess.PIPE) as tar,
        (folder / f"{week}.tar.zst").open("wb") as sink,
    ):
        subprocess.run(["zstd", "-3", "-qc"], stdin=tar.stdout, stdout=sink, check=True)


def keep_in_borg(tree: Path, folder: Path, week: int) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "BORG_BASE_DIR": str(folder.parent / "home")}
    if not folder.exists():
        subprocess.run(["borg", "init", "--encryption=none", folder], check=True, env=environment)
    create = ["borg", "create", "--compression=zstd,3", f"{folder}::{week}", "."]
    subprocess.run(create, check=True, env=environment, cwd=tree)


def keep_in_casync(tree: Path, folder: Path, week: int) -> None:
    folder.mkdir(exist_ok=True)
    index = folder / f"{week}.caidx"
    make = ["casync", "make", f"--store={folder}/store.castr", "--compression=zstd", index, tree]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)


KEEPERS: dict[str, tuple[str, Callable[[Path, Path, int], None]]] = {
    "repository": ("tar", keep_in_repository),
    "tar.zst": ("zstd", keep_archive),
    "borg": ("borg", keep_in_borg),
    "casync": ("casync", keep_in_casync),
}
"""What keeps versions, and the program that it needs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", type=Path, help="by default that of the tests' cache")
    parser.add_argument("--weeks", type=int, default=12)
    parser.add_argument("--upgrades", type=int, default=1, help="source packages in a week")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    keepers = {name: keep for name, (program, keep) in KEEPERS.items() if shutil.which(program)}
    rooms: dict[str, list[int]] = {name: [] for name in keepers}
    with tempfile.TemporaryDirectory(prefix="goldsmith-benchmark-") as name:
        root = Path(name, "tree")
        root.mkdir()
        template = options.template or sorted(CACHE.glob("*.tar.zst"))[-1]
        subprocess.run(["tar", "-xpf", template, "-C", root], check=True)
        tree = Tree(root, random.Random(options.seed))
        for week in range(options.weeks):
            upgraded = tree.pass_week(options.upgrades) if week else []
            for keeper, keep in keepers.items():
                keep(root, Path(name, keeper), week)
                rooms[keeper].append(measure(Path(name, keeper)))
            print(f"week {week + 1:2}  {rooms['repository'][-1] / 1e6:6.1f} MB  {' '.join(upgraded)}", flush=True)
    for keeper, sizes in rooms.items():
        print(f"{keeper:12} one {sizes[0] / 1e6:7.1f} MB   {len(sizes)}: {sizes[-1] / 1e6:7.1f} MB   "
              f"{sizes[-1] / sizes[0]:5.2f} x one")  # fmt: skip


if __name__ == "__main__":
    main()
