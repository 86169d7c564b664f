"""Who owns a file, and what goes into which layer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldsmith.artifacts.division import MOST_LAYERS, Group, plan_division
from goldsmith.artifacts.owners import Owners, find_owners

STATUS = b"""\
Package: libssl3
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: openssl (3.0.17-1~deb12u3)
Version: 3.0.17-1~deb12u3
Description: libraries
 Source: not this one

Package: openssl
Version: 3.0.17-1~deb12u3

Package: dash
Version: 0.5.12-2

Package: python3-yaml
Source: pyyaml
Version: 6.0-3+b2

Package: local-tools
Version: 1.0
"""


def owners_of(files: dict[bytes, bytes], targets: dict[bytes, bytes] | None = None) -> Owners:
    return find_owners(files, targets or {}, files.__getitem__)


def debian(**lists: bytes) -> dict[bytes, bytes]:
    """A dpkg database; `lists` are those of packages, by name."""
    names = {name.replace("_", "-"): content for name, content in lists.items()}
    return {b"var/lib/dpkg/status": STATUS} | {
        b"var/lib/dpkg/info/%b.list" % name.encode(): content for name, content in names.items()
    }


def test_files_belong_to_source_packages() -> None:
    files = debian(dash=b"/.\n/usr\n/usr/bin/dash\n", openssl=b"/usr/bin/openssl\n/not/there\n")
    files |= {b"var/lib/dpkg/info/libssl3:amd64.list": b"/usr/lib/libssl.so.3\n"}
    files |= dict.fromkeys([b"usr/", b"usr/bin/dash", b"usr/bin/openssl", b"usr/lib/libssl.so.3", b"opt/mine"], b"")
    found = owners_of(files).files
    assert (found[b"usr/bin/dash"], found[b"usr/bin/openssl"]) == (b"dash", b"openssl")
    assert found[b"usr/lib/libssl.so.3"] == b"openssl"
    assert not {b"opt/mine", b"usr/", b"not/there", b"var/lib/dpkg/status"} & found.keys()


def test_updated_are_those_that_came_after_the_release() -> None:
    assert owners_of(debian()).updated == {b"openssl"}


@pytest.mark.parametrize(
    ("version", "updated"),
    [
        ("2.36-9+deb12u9", True),
        ("1:9.2p1-2~deb12u3", True),
        ("2.39-0ubuntu8.4", True),
        ("7.2-2ubuntu0.1", True),
        ("1.21.1ubuntu2", False),
        ("6.0-3+b2", False),
        ("2:1.02.185-2", False),
        ("5:27.3.1-1~debian.12~bookworm", False),
    ],
)
def test_versions_of_updates(version: str, updated: bool) -> None:
    files = {b"var/lib/dpkg/status": b"Package: a\nVersion: " + version.encode() + b"\n"}
    assert owners_of(files).updated == ({b"a"} if updated else set())


@pytest.mark.parametrize("target", [b"usr/bin", b"/usr/bin", b"./usr/../usr/bin", b"../usr/bin"])
def test_paths_from_before_usr_was_merged(target: bytes) -> None:
    files = debian(dash=b"/bin/dash\n/bin/sh\n") | {b"bin": b"", b"usr/bin/dash": b"", b"usr/bin/sh": b""}
    found = owners_of(files, {b"bin": target, b"usr/bin/sh": b"dash"}).files
    assert (found[b"usr/bin/dash"], found[b"usr/bin/sh"]) == (b"dash", b"dash")


def test_links_that_lead_in_a_circle_end() -> None:
    files = debian(dash=b"/a/b/dash\n/c/dash\n") | {b"a": b"", b"c": b"", b"d/e/dash": b""}
    targets = {b"a": b"a", b"c": b"d/f", b"d/f": b"e", b"x": b"y", b"y": b"x"}
    assert owners_of(files, targets).files[b"d/e/dash"] == b"dash"


def test_diverted_files() -> None:
    """`/bin/sh` of dash lies elsewhere because local-tools has one of its own; the administrator diverted `ls`."""
    files = debian(dash=b"/usr/bin/sh\n/usr/bin/ls\n", local_tools=b"/usr/bin/sh\n")
    files[b"var/lib/dpkg/diversions"] = (
        b"/usr/bin/sh\n/usr/bin/sh.distrib\nlocal-tools\n/usr/bin/ls\n/usr/bin/ls.orig\n:\n"
    )
    files |= dict.fromkeys([b"usr/bin/sh", b"usr/bin/sh.distrib", b"usr/bin/ls", b"usr/bin/ls.orig"], b"")
    found = owners_of(files).files
    assert (found[b"usr/bin/sh"], found[b"usr/bin/sh.distrib"]) == (b"local-tools", b"dash")
    assert found[b"usr/bin/ls.orig"] == b"dash"
    assert b"usr/bin/ls" not in found


def test_what_comes_and_goes_with_a_package_belongs_to_it() -> None:
    """dpkg's notes on it and Python's bytecode are in no list, and change with every upgrade."""
    module = b"usr/lib/python3/dist-packages/yaml/"
    files = debian(python3_yaml=b"/" + module + b"nodes.py\n")
    code = [b"__pycache__/nodes.cpython-311.pyc", b"__pycache__/nodes.cpython-311.opt-1.pyc"]
    others = [b"__pycache__/mine.cpython-311.pyc", b"nodes.pyc"]
    files |= dict.fromkeys([module + name for name in [b"nodes.py", *code, *others]], b"")
    files |= dict.fromkeys([b"var/lib/dpkg/info/libssl3:amd64.md5sums", b"var/lib/dpkg/info/format"], b"")
    found = owners_of(files).files
    assert {found.get(module + name) for name in code} == {b"pyyaml"}
    assert {found.get(module + name) for name in others} == {None}
    assert found[b"var/lib/dpkg/info/libssl3:amd64.md5sums"] == b"openssl"
    assert found[b"var/lib/dpkg/info/python3-yaml.list"] == b"pyyaml"
    assert b"var/lib/dpkg/info/format" not in found


def test_notes_are_what_no_package_ships() -> None:
    notes = [b"var/lib/dpkg/info/dash.list", b"usr/__pycache__/a.cpython-311.pyc"]
    files = debian(dash=b"/usr/a.py\n/usr/shipped.pyc\n")
    files |= dict.fromkeys([notes[1], b"usr/a.py", b"usr/shipped.pyc"], b"")
    assert owners_of(files).notes == set(notes)


def test_links_in_the_root_are_no_packages() -> None:
    """`/lib64` is a folder in libc6, and a link in the image, made when that was set up."""
    files = debian(dash=b"/lib64\n/usr/lib64\n/top\n") | {b"lib64": b"", b"usr/lib64": b"", b"top": b""}
    found = owners_of(files, {b"lib64": b"usr/lib64", b"usr/lib64": b"lib"}).files
    assert {b"usr/lib64", b"top"} <= found.keys()
    assert b"lib64" not in found


def test_settings_are_not_in_layers_of_packages() -> None:
    owners = Owners({b"usr/bin/a": b"a", b"etc/a.conf": b"a"})
    groups = plan({b"usr/bin/a": 1, b"etc/a.conf": 1, b"etc/mine": 1}, owners)
    assert [group.names for group in groups] == [(b"usr/bin/a",), (b"etc/a.conf", b"etc/mine")]


def test_alpine() -> None:
    openssl = b"C:Q1=\nP:libcrypto3\nV:3.3\no:openssl\nF:lib\nR:libcrypto.so.3\na:0:0:755\nF:etc/ssl\nR:x\n"
    database = openssl + b"\nP:musl\nF:\nR:top\n\n"
    files = dict.fromkeys([b"lib/libcrypto.so.3", b"etc/ssl/x", b"top", b"mine"], b"")
    found = owners_of(files | {b"lib/apk/db/installed": database}).files
    assert found == {b"lib/libcrypto.so.3": b"openssl", b"etc/ssl/x": b"openssl", b"top": b"musl"}


@pytest.mark.parametrize("status", [b"", b"\n\n\n", b"Package\n\n:", b"\xff\xfe", b"Package: a\n" * 3])
def test_a_database_that_cannot_be_read_owns_nothing(status: bytes) -> None:
    files = {b"var/lib/dpkg/status": status, b"var/lib/dpkg/diversions": b"/a\n/b", b"x": b""}
    assert owners_of(files).files == {}


def plan(sizes: dict[bytes, int], owners: Owners | None = None, shared: list[list[bytes]] | None = None) -> list[Group]:
    return plan_division(sizes, shared or [], owners or Owners())


def packaged(sizes: dict[bytes, int], updated: frozenset[bytes] = frozenset()) -> tuple[dict[bytes, int], Owners]:
    """Packages of two files each, by name and size."""
    files = {b"usr/share/%b/%d" % (name, n): name for name in sizes for n in range(2)}
    return {path: sizes[name] // 2 for path, name in files.items()}, Owners(files, frozenset(), updated)


def test_folders_come_first_and_once_more_at_the_end() -> None:
    first, *files, last = plan({b"b/": 512, b"-/": 512, b"a/": 512, b"./": 512, b"a/x": 512})
    assert first is last
    assert first.names == (b"./", b"-/", b"a/", b"b/")
    assert [group.names for group in files] == [(b"a/x",)]


def test_without_files_or_without_folders_nothing_is_repeated() -> None:
    assert [group.names for group in plan({b"a/": 512})] == [(b"a/",)]
    assert [group.names for group in plan({b"a": 512})] == [(b"a",)]
    assert plan({}) == []


def test_packages_come_before_what_no_package_owns_and_that_before_what_changes() -> None:
    sizes, owners = packaged({b"perl": 60 << 20, b"sed": 4096, b"pam": 8192}, frozenset([b"pam"]))
    sizes |= {b"opt/app/bin/a": 50 << 20, b"srv/x": 1, b"etc/passwd": 1, b"var/lib/dpkg/status": 1, b"usr/": 512}
    titles = [group.title.rstrip(" 0123456789") for group in plan(sizes, owners)]
    assert titles == [
        "directories", "perl", "updated packages", "packages", "/opt/app/bin", "files of no package", "changing",
        "directories",
    ]  # fmt: skip


def test_names_of_one_inode_stay_together_where_the_first_belongs() -> None:
    sizes, owners = packaged({b"big": 10 << 20, b"other": 10 << 20})
    one, two = b"usr/share/big/0", b"usr/share/other/1"
    groups = plan({**sizes, b"zzz": 1}, owners, [[one, two, b"zzz"]])
    assert [set(group.names) >= {one, two, b"zzz"} for group in groups].count(True) == 1
    assert next(group for group in groups if one in group.names).title == "big"


WORDS = st.binary(min_size=1, max_size=3).filter(lambda word: b"/" not in word)
PACKAGES = st.dictionaries(WORDS, st.integers(1, 1 << 28), max_size=150)


@given(PACKAGES, st.dictionaries(st.lists(WORDS, min_size=1, max_size=5).map(b"/".join), st.integers(1, 1 << 30)))
@settings(max_examples=60, deadline=None)
def test_every_name_is_in_one_layer_of_at_most_64(packages: dict[bytes, int], places: dict[bytes, int]) -> None:
    sizes, owners = packaged(packages, frozenset(sorted(packages)[::2]))
    sizes = {**places, b"usr/": 512, b"etc/mine": 1, **sizes}
    groups = plan(sizes, owners)
    assert len(groups) <= MOST_LAYERS
    assert len({group.title for group in groups}) == len(groups) - 1
    assert sorted(name for group in groups[:-1] for name in group.names) == sorted(sizes)
    assert all(list(group.names) == sorted(group.names) for group in groups)
    assert groups == plan(dict(reversed(sizes.items())), owners)


def count_new(before: list[Group], after: list[Group]) -> int:
    """How many layers hold other names than any layer did before."""
    return len({group.names for group in after} - {group.names for group in before})


@given(PACKAGES.filter(bool), st.data())
@settings(max_examples=150, deadline=None)
def test_packages_that_grow_come_and_go_move_few_others(packages: dict[bytes, int], data: st.DataObject) -> None:
    """At most: the bucket it leaves, its own layer, and the bucket of one that is pushed out (or the layer of one that
    moves up)."""
    updated = frozenset(sorted(packages)[::3])
    chosen = data.draw(st.sampled_from(sorted(packages)))
    before = plan(*packaged(packages, updated))
    other = {**packages, chosen: data.draw(st.integers(1, 1 << 28))}
    assert count_new(before, plan(*packaged(other, updated))) <= 3
    assert count_new(before, plan(*packaged(packages, updated | {chosen}))) <= 3
    fewer = {name: size for name, size in packages.items() if name != chosen}
    assert count_new(before, plan(*packaged(fewer, updated - {chosen}))) <= 3
    assert count_new(plan(*packaged(fewer, updated - {chosen})), before) <= 3


def test_growing_by_a_little_moves_nothing() -> None:
    packages = {b"package-%d" % n: (n + 3) * 100_000 for n in range(100)}
    before = plan(*packaged(packages))
    assert [plan(*packaged({**packages, name: size + 2000})) == before for name, size in packages.items()] == [
        True
    ] * 100
