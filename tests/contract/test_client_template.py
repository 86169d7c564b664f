"""The whole way of an image on an embedded node: dump, layer, version, template, upload, and a container made of it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from goldsmith.artifacts.export import write_template
from goldsmith.artifacts.repository import NewVersion, open_repository
from goldsmith.base.digest import digest_file
from goldsmith.pve.shell import LocalShell
from tests.unit.artifacts.making import make_record

from .conftest import Target

pytestmark = pytest.mark.root


def listed(archive: Path | str) -> set[str]:
    """Names, kinds, modes, owners, sizes and times of an archive's entries, as tar prints them."""
    command = ["tar", "--numeric-owner", "--full-time", "-tvf", str(archive)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    # tar widens its columns as it goes: an entry's line has other blanks after one with a fraction of a second
    return {" ".join(line.split(maxsplit=5)).replace(" ./", " ") for line in lines}


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
def test_a_dump_becomes_a_template_that_containers_are_made_of(target: Target, tmp_path: Path) -> None:
    first, second = target.vmids[:2]
    target.create(first, nets=(target.net(),))
    backup = target.node.backups.create(first, storage="local", compress="0")
    shell, repository = LocalShell(), open_repository(tmp_path / "repository")
    try:
        with repository.open_writer() as writer, shell.open_read(backup.path) as stream:
            layers = writer.add_layers(stream)  # type: ignore[arg-type]
            version = writer.put(NewVersion(name="whole-way", layers=layers, record=make_record()))
        template = write_template(repository, version, tmp_path / "whole-way-20261123_1_amd64.tar.zst")
        dumped, kept = listed(backup.path), listed(template.path)
    finally:
        target.node.storage.delete_volume(backup.volid)
    assert [line for line in dumped - kept if "etc/vzdump" not in line] == []
    assert not [line for line in kept if "vzdump/" in line]
    assert sum(layer.entries for layer in layers[:-1]) == len(kept) > 5000  # the last one repeats the folders

    volid = f"local:vztmpl/{template.path.name}"
    with template.path.open("rb") as file:
        upid = target.node.storage.upload(
            "local", template.path.name, file, template.size, sha256=digest_file(template.path)
        )
    target.node.tasks.wait(upid)
    try:
        target.create(second, ostemplate=volid, nets=(target.net(),))
        guests, tasks = target.node.guests, target.node.tasks
        tasks.wait(guests.start(second))
        deadline = time.monotonic() + 20
        while not any(interface.name == "eth0" for interface in guests.list_interfaces(second)):
            assert time.monotonic() < deadline, "the container does not come up"
            time.sleep(0.1)
        assert guests.get_status(second).running
    finally:
        target.node.storage.delete_volume(volid)
    assert repository.verify() == []
