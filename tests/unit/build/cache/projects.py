"""A project in a directory, whose layers' keys tests look at: files are real, and so is what reads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from goldsmith.base.digest import Digest
from goldsmith.build.cache.keys import LayerKey, make_keys
from goldsmith.definition.layers import LayerDefinition
from goldsmith.provision.inputs import Inputs, find_inputs
from goldsmith.provision.play import Play
from goldsmith.provision.stages import list_stages

BASE = Digest("sha256:" + "1" * 64)
SECRET = b"s" * 32
IMAGE = "images/lxc"
PLAYBOOK = f"{IMAGE}/playbook.yml"


class Project:
    """One image with what is around it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write({PLAYBOOK: "- hosts: all\n  tasks: []\n"})
        self.variables: dict[str, Any] = {}
        self.layers: tuple[LayerDefinition, ...] = ()
        self.strategy = "mitogen_linear"

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def remove(self, name: str) -> None:
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    @property
    def play(self) -> Play:
        return Play(self.root / PLAYBOOK, self.root, self.variables, self.strategy)

    def inputs(self) -> Inputs:
        return find_inputs(self.play)

    def keys(self, base: Digest = BASE) -> tuple[LayerKey, ...]:
        return make_keys(list_stages(self.play, self.layers), base, SECRET)

    def list_digests(self) -> list[str]:
        return [key.key for key in self.keys()]

    def find_first_changed(self, change: Callable[[], object]) -> int | None:
        """Number of the first layer whose key a change changes; None where none does. All after it must change too."""
        before = self.list_digests()
        change()
        after = self.list_digests()
        changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        if not changed:
            return None
        assert changed == list(range(changed[0], len(before)))
        return changed[0]
