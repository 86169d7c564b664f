"""`goldsmith cache`: archives in the storage of a node that runs, without guests; and how guests are shown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.digest import Digest
from goldsmith.build.cache.archives import CacheArchive, describe_archive
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.cli.cache import describe_cache, render_cache
from goldsmith.cli.main import run
from goldsmith.cli.site import STATE_VARIABLE
from goldsmith.node import daemon
from goldsmith.node.settings import NodeSettings
from tests.unit.cli.nodes import make_settings

Said = pytest.CaptureFixture[str]
KEY = Digest("sha256:" + "1" * 64)


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeSettings]:
    """A node without guests, and nobody's own settings."""
    made = make_settings(tmp_path / "node")
    made.state.mkdir()
    made.save()
    for name, value in {STATE_VARIABLE: made.state, "XDG_STATE_HOME": tmp_path, "HOME": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    daemon.start(made)
    yield made
    daemon.stop(made)


def make_archive(**values: Any) -> CacheArchive:
    given = {"layer": "tools", "key": KEY, "made": 0, "since": (1, 2), "image": "golden", "opened_by": "SHA256:a"}
    return CacheArchive(**{**given, "volid": "", "size": 1_000_000, **values})


def put_archive(settings: NodeSettings, stamp: str, size: int = 1_000_000, **values: Any) -> str:
    """Put a backup of that day with an archive's notes into the node's storage, and return its volume id."""
    path = settings.state / "plain" / "dump" / f"vzdump-lxc-900-{stamp}.tar.zst"
    with path.open("wb") as file:
        file.truncate(size)
    notes = describe_archive(make_archive(size=size, used=int(time.time()) - 3600, **values))
    path.with_name(f"{path.name}.notes").write_text(notes)
    path.with_name(f"{path.name}.protected").touch()
    return f"plain:backup/{path.name}"


def list_backups(settings: NodeSettings) -> list[str]:
    return sorted(f"plain:backup/{path.name}" for path in (settings.state / "plain/dump").glob("*.tar.zst"))


def test_archives_are_listed_with_what_they_take(settings: NodeSettings, capsys: Said) -> None:
    volid = put_archive(settings, "2026_11_24-10_00_00")
    used = put_archive(settings, "2026_11_25-10_00_00", 3_000_000, image="web", users=(("0123", int(time.time())),))
    (settings.state / "plain/dump/vzdump-lxc-100-2026_11_25-10_00_00.tar.zst").write_bytes(b"somebody's")
    assert run(["cache"]) == 0
    table, total = capsys.readouterr().out.split("\n\n")
    heads, first, second = table.splitlines()
    assert heads.split() == ["WHERE", "KEPT", "AS", "NODE", "IMAGE", "LAYERS", "LAST", "USED", "SIZE"]
    assert first.split()[:5] == [volid, "archive", "pve", "golden", "tools"]
    assert first.endswith("1 MB")
    assert second.startswith(used)
    assert second.endswith("3 MB  in use")
    assert total == "4 MB on pve; beyond 60.0 GB what was not used for longest goes\n"
    assert run(["cache", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["guests"], found["size"], found["limit"]) == ([], 4_000_000, 60 * 10**9)
    assert [(one["volid"], one["in_use"]) for one in found["archives"]] == [(volid, False), (used, True)]
    assert found["archives"][0]["layer"]["key"] == KEY
    assert found["archives"][0]["layer"]["since"] == [1, 2]


def test_the_longest_unused_go_until_the_rest_takes_no_more(settings: NodeSettings, capsys: Said) -> None:
    old = put_archive(settings, "2026_11_23-10_00_00", layer="a")
    young = put_archive(settings, "2036_11_24-10_00_00", layer="b")
    used = put_archive(settings, "2026_11_22-10_00_00", layer="c", users=(("0123", int(time.time())),))
    assert run(["cache", "prune", "--size", "2M", "--dry-run"]) == 0
    assert capsys.readouterr().out == (f"archive {old} with layers of golden: all together take more than 2 MB\n")
    assert list_backups(settings) == sorted([old, young, used])
    assert run(["cache", "prune", "--size", "2M"]) == 0
    assert list_backups(settings) == sorted([young, used])
    assert run(["cache", "prune", "--size", "2M"]) == 0
    assert capsys.readouterr().err.endswith("nothing is to be removed\n")
    assert run(["cache", "prune"]) == 0
    assert list_backups(settings) == [used]


def test_one_is_removed_by_its_name(settings: NodeSettings, capsys: Said) -> None:
    gone = put_archive(settings, "2026_11_23-10_00_00")
    stays = put_archive(settings, "2026_11_24-10_00_00", layer="other")
    assert run(["cache", "prune", gone]) == 0
    assert list_backups(settings) == [stays]
    assert f"archive {gone} with layers of golden: asked for" in capsys.readouterr().err
    assert run(["cache", "prune", gone]) == 2
    said = capsys.readouterr().err
    assert f"{gone} keeps no layers" in said
    assert f"these do: {stays}" in said
    assert run(["cache", "prune", "950"]) == 2
    assert "guest 950 keeps no layers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--size", "20", "--size: '20' is no size"),
        ("--size", "-1G", "--size: '-1G' is no size"),
        ("--older-than", "long", "--older-than: 'long' is no age"),
    ],
)
def test_what_is_no_size_or_age_removes_nothing(
    option: str, value: str, said: str, settings: NodeSettings, capsys: Said
) -> None:
    volid = put_archive(settings, "2026_11_23-10_00_00")
    assert run(["cache", "prune", option, value]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "a number with" in told
    assert list_backups(settings) == [volid]


def test_nothing_kept_is_said(capsys: Said) -> None:
    assert run(["cache"]) == 0
    assert capsys.readouterr() == ("", "no layers are kept\n")


def test_guests_and_archives_stand_in_one_table() -> None:
    layers = tuple(
        Checkpoint(layer=name, key=KEY, made=5, since=(5,), vmid=900, snapshot="layer-1") for name in ("tools", "web")
    )
    listed = [
        ("a", CacheGuest(900, "golden", layers, size=5_000_000)),
        ("b", make_archive(volid="nas:backup/x", made=9)),
    ]
    lines = render_cache(listed).splitlines()
    assert lines[1].split()[:7] == ["900", "snapshots", "a", "golden", "tools", "<", "web"]
    assert lines[2].split()[:5] == ["nas:backup/x", "archive", "b", "golden", "tools"]
    assert [line.partition(";")[0] for line in lines[4:]] == ["5 MB on a", "1 MB on b"]
    described = describe_cache(listed)
    assert isinstance(described, dict)
    assert described["size"] == 6_000_000
    assert described["guests"] == [{
        "vmid": 900, "node": "a", "image": "golden", "used": 5, "size": 5_000_000, "in_use": False,
        "layers": [{"layer": name, "key": KEY, "made": 5, "since": [5]} for name in ("tools", "web")],
    }]  # fmt: skip
