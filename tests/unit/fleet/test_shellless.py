"""What of a server's inventory needs a shell on its node."""

from __future__ import annotations

from typing import Any

import pytest

from goldsmith.fleet.actions.shellless import list_wishes
from tests.unit.fleet.making import DATA, make_server

BIND: dict[str, Any] = {"path": "/srv/photos", "bind": "/tank/photos", "backup": "restic", "repository": "/tank/restic"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, []),
        ({"checks": [{"port": 22}, {"url": "http://web1/"}], **DATA}, []),
        ({"checks": [{"command": "test -e /x"}]}, ["the check `test -e /x`"]),
        ({"keep_host_keys": True}, ["keep_host_keys"]),
        ({**DATA, "backup": {"storage": "nas", "before": "dump"}}, ["the command before the backup"]),
        ({"data": [BIND]}, ["the backup of /tank/photos"]),
    ],
)
def test_what_needs_a_shell_is_named(variables: dict[str, Any], said: list[str]) -> None:
    assert list(list_wishes(make_server(**variables))) == said
