"""What a node has pulled: how big it may be, and what is in it. Real archives are read in lxc/test_oci_pull.py."""

from __future__ import annotations

from pathlib import Path

from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.pulling import list_blobs, measure_archive
from goldsmith.artifacts.repository import open_repository
from goldsmith.base.digest import Digest
from goldsmith.build.pull import Way, choose_way, find_fault, parse_blobs
from tests.unit.artifacts.making import put

ONE, TWO, THREE = (Digest("sha256:" + digit * 64) for digit in "123")


def test_an_archive_has_what_is_in_it_and_little_more(tmp_path: Path) -> None:
    version = put(open_repository(tmp_path / "repository"), "golden", bytes(3 << 20))
    sizes = measure_archive(version)
    assert sizes.start == version.size + version.config.size
    assert 0 < len(sizes) < (64 << 10) + (4 << 10) * (len(version.layers) + 2)
    assert list_blobs(version) == {version.digest, version.config.digest, *(one.digest for one in version.layers)}
    assert measure_template(version) < sizes.stop


def test_no_node_pulls_from_a_directory(tmp_path: Path) -> None:
    way = choose_way(open_repository(tmp_path / "repository"), [])
    assert way == Way(reason=f"{tmp_path}/repository is a directory, and a node pulls from a registry only")


def test_the_blobs_of_an_archive_are_compared_with_a_version() -> None:
    text = "".join(f"blobs/sha256/{digit * 64} {own * 64}  -\n" for digit, own in ("11", "22"))
    found = parse_blobs(text)
    assert found == [(ONE, ONE), (TWO, TWO)]
    assert find_fault(found, frozenset([ONE, TWO])) == ""
    assert find_fault(found, frozenset([ONE, TWO, THREE])) == f"blob {THREE} is missing"
    assert find_fault(found, frozenset([ONE])) == f"blob {TWO} is none of it"
    assert find_fault([(TWO, THREE), *found], frozenset([ONE, TWO])) == f"blob {TWO} is damaged", "though it is there"
    assert find_fault([], frozenset([ONE])) == f"blob {ONE} is missing"
