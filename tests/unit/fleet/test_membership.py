"""Whether a server may be made anew under its vmid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldsmith.base.errors import FleetError
from goldsmith.fleet.actions.membership import check_remaking
from goldsmith.fleet.work import Work
from tests.unit.fleet.making import make_server


def work(strategy: str, granted: str, **variables: Any) -> Work:
    """A replacement by somebody who may make guests by what is granted on one path."""

    def find_privileges(path: str) -> frozenset[str]:
        return frozenset({"VM.Allocate"} if path == granted else ())

    record = SimpleNamespace(strategy=strategy, old=100)
    site = SimpleNamespace(pve=SimpleNamespace(find_privileges=find_privileges))
    return cast("Work", SimpleNamespace(record=record, site=site, server=make_server(**variables)))


@pytest.mark.parametrize(
    ("strategy", "granted", "variables"),
    [("swap", "/vms/100", {}), ("recreate", "/vms", {}), ("recreate", "/pool/golden", {"pool": "golden"})],
)
def test_what_stays_is_enough(strategy: str, granted: str, variables: dict[str, Any]) -> None:
    check_remaking(work(strategy, granted, **variables))


@pytest.mark.parametrize("granted", ["/vms/100", "/pool/golden"])
def test_a_right_that_goes_with_the_guest_is_not(granted: str) -> None:
    with pytest.raises(FleetError, match="when guest 100 is destroyed, so is the right to make it again"):
        check_remaking(work("recreate", granted))
