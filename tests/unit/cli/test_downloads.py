"""`goldsmith cache`: downloaded packages."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from goldsmith.cli.project import downloads_directory
from goldsmith.provision.downloads.rules import Url
from goldsmith.provision.downloads.store import Head, Store, Writer
from tests.unit.cli.running import goldsmith
from tests.unit.provision.downloads.mirrors import CONTENT, HOST, PACKAGE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two packages, of which one has not been wanted for ten days."""
    store = Store(downloads_directory({"HOME": str(tmp_path)}))
    for name, days in (("old", 10), ("new", 0)):
        url = Url(HOST, PACKAGE.replace("tree", name))
        writer = store.begin(url)
        assert isinstance(writer, Writer)
        with writer:
            writer.begin(Head(str(url), len(CONTENT), 0))
            writer.write(CONTENT)
            assert writer.finish()
        kept = store.find(url)
        assert kept is not None
        with kept:
            os.utime(kept.file.fileno(), (time.time() - days * 86400,) * 2)
    return store


def test_downloaded_packages_are_removed_by_age_or_all(store: Store, tmp_path: Path) -> None:
    looked = goldsmith("cache", "prune", "--downloads", "--dry-run", home=tmp_path)
    assert (looked.returncode, looked.stdout) == (0, "2 downloaded files, 1 MB\n")
    assert len(store.list_files()) == 2
    done = goldsmith("cache", "prune", "--downloads", "--older-than", "7d", home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "[removed 1 downloaded file, 512 kB]\n")
    done = goldsmith("cache", "prune", "--downloads", "--json", home=tmp_path)
    assert done.returncode == 0
    assert '"what": "1 downloaded file, 512 kB"' in done.stdout
    assert store.list_files() == []
    assert "nothing is to be removed" in goldsmith("cache", "prune", "--downloads", home=tmp_path).stderr
    assert not (tmp_path / "node").exists()


def test_guests_and_packages_alone_exclude_each_other(tmp_path: Path) -> None:
    done = goldsmith("cache", "prune", "--downloads", "950", home=tmp_path)
    assert done.returncode == 2
    assert "give one of the two" in done.stderr
