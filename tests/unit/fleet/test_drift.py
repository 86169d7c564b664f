"""What counts as drift."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goldsmith.artifacts.tree import FileEntry, FileKind
from goldsmith.base.digest import Digest
from goldsmith.fleet.drift import Drifted, Seen, compare, is_ignored, parse_accounts, parse_scan

CONTENT = Digest("sha256:" + "0" * 64)
OTHER = Digest("sha256:" + "1" * 64)
FILE = FileEntry(FileKind.FILE, 0o644, 0, 0, 3, CONTENT)
FOLDER = FileEntry(FileKind.FOLDER, 0o755, 0, 0)
LINK = FileEntry(FileKind.SYMLINK, 0o777, 0, 0, target="a")
SAME = Seen(FileKind.FILE, 0o644, 0, 0, 3, "", CONTENT)


def differ(entry: FileEntry | None, seen: Seen | None, path: str = "etc/x") -> list[Drifted]:
    return compare({path: entry} if entry else {}, {path: seen} if seen else {}, [])


@pytest.mark.parametrize(
    ("entry", "seen", "what"),
    [
        (FILE, SAME, None),
        (FILE, Seen(FileKind.FILE, 0o644, 0, 0, 3, "", OTHER), ("content",)),
        (FILE, Seen(FileKind.FILE, 0o4644, 0, 0, 3, "", CONTENT), ("mode",)),
        (FILE, Seen(FileKind.FILE, 0o644, 33, 0, 3, "", CONTENT), ("owner",)),
        (FILE, Seen(FileKind.SYMLINK, 0o777, 0, 0, 3, "y"), ("kind",)),
        (FILE, None, ("removed",)),
        (None, SAME, ("added",)),
        (
            FileEntry(FileKind.SYMLINK, 0o777, 0, 0, target="a"),
            Seen(FileKind.SYMLINK, 0o777, 0, 0, 1, "b"),
            ("target",),
        ),
    ],
)
def test_differences(entry: FileEntry | None, seen: Seen | None, what: tuple[str, ...] | None) -> None:
    assert differ(entry, seen) == ([] if what is None else [Drifted("etc/x", what)])


def test_hard_links_have_the_content_of_what_they_are_one_with() -> None:
    tree = {"usr/bin/a": FILE, "usr/bin/b": FileEntry(FileKind.FILE, 0o644, 0, 0, target="usr/bin/a")}
    assert compare(tree, {"usr/bin/a": SAME, "usr/bin/b": SAME}, []) == []


def test_of_an_added_folder_only_the_folder_is_told() -> None:
    seen = {"opt/kit": Seen(FileKind.FOLDER, 0o755, 0, 0), "opt/kit/a": SAME, "opt/kit-b": SAME}
    assert [one.path for one in compare({}, seen, [])] == ["opt/kit", "opt/kit-b"]
    keys = {"root/.ssh": Seen(FileKind.FOLDER, 0o700, 0, 0), "root/.ssh/authorized_keys": SAME}
    assert [one.path for one in compare({}, keys, [])] == ["root/.ssh/authorized_keys"], "systemd makes the folder"


def test_paths_that_are_no_drift() -> None:
    prefixes = frozenset({"var/log", "srv/data"})
    assert is_ignored("var/log/x/y", prefixes)
    assert is_ignored("etc/ssh/ssh_host_ed25519_key.pub", prefixes)
    assert is_ignored("usr/lib/python3/__pycache__/a.pyc", prefixes)
    assert not is_ignored("var/logs", prefixes)
    assert not is_ignored("etc/ssh/sshd_config", prefixes)


def test_a_scan_holds_names_of_any_bytes(tmp_path: Path) -> None:
    """As find and sha256sum print them, of a folder instead of a whole guest."""
    (tmp_path / "a b\nc").write_text("x")
    (tmp_path / "link").symlink_to("a b")
    script = (
        f"find {tmp_path} -xdev -printf '%y %m %U %G %s %l\\0%p\\0'; printf '\\0\\0';"
        f"find {tmp_path} -xdev -type f -print0 | xargs -0 -r sha256sum -z --"
    )
    data = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    seen = parse_scan(data)
    inside = str(tmp_path).strip("/")
    assert seen[inside].kind is FileKind.FOLDER
    assert seen[f"{inside}/link"].target == "a b"
    found = seen[f"{inside}/a b\nc"]
    assert found.content == "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


def test_units_and_accounts() -> None:
    assert Drifted("etc/systemd/system/cron.service", ("added",)).is_unit
    assert not Drifted("etc/cron.d/x", ("added",)).is_unit
    assert parse_accounts("root:x:0\n\nops:x:1000:a\n") == {"root": "root:x:0", "ops": "ops:x:1000:a"}
