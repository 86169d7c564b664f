"""What is looked at before a replacement begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldsmith.base.errors import FleetError
from goldsmith.fleet.actions.checks import check_architecture
from tests.unit.fleet.making import make_server


@pytest.mark.parametrize(("image", "fits"), [("amd64", True), ("arm64", False), ("", True)])
def test_a_version_for_another_processor_is_refused(image: str, fits: bool) -> None:
    node = SimpleNamespace(name="pve1", read_architecture=lambda: "amd64")
    work = cast("Any", SimpleNamespace(server=make_server(), site=SimpleNamespace(node=node)))
    repository = cast("Any", SimpleNamespace(read_config=lambda _version: SimpleNamespace(architecture=image)))
    if fits:
        check_architecture(work, repository, cast("Any", "golden:20261124.1"))
        return
    with pytest.raises(FleetError, match=r"web1: golden:20261124\.1 is for arm64, and node pve1 is amd64"):
        check_architecture(work, repository, cast("Any", "golden:20261124.1"))
