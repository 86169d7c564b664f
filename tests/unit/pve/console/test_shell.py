"""Who may open a console, and where that is said before anything is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from goldsmith.base.errors import ConsoleFailed
from goldsmith.base.secrets import Secret
from goldsmith.build.facts import check_consoles
from goldsmith.pve.client import parse_version
from goldsmith.pve.connection import Connection

TOKEN = Connection("pve1", token_id="root@pam!t", token_secret=Secret("x"))
PASSWORD = Connection("pve1", password=Secret("x"))


def make_site(connection: Connection, version: str, kind: str = "proxmox") -> Any:
    """As much of a site as is looked at."""
    return SimpleNamespace(
        kind=kind, pve=SimpleNamespace(connection=connection, version=lambda: parse_version(version))
    )


def test_a_token_opens_none_before_9_1() -> None:
    with pytest.raises(ConsoleFailed, match="guests cannot be entered through their consoles") as caught:
        check_consoles(make_site(TOKEN, "8.4.21"))
    assert caught.value.hint == (
        "a token opens consoles since Proxmox VE 9.1, this is 8.4.21: log in with a password (proxmox_api_user, "
        "proxmox_api_password)"
    )


@pytest.mark.parametrize(
    ("connection", "version", "kind"),
    [(TOKEN, "9.1.1", "proxmox"), (TOKEN, "10.0", "proxmox"), (PASSWORD, "7.4", "proxmox"), (TOKEN, "8.4", "embedded")],
)
def test_a_newer_one_a_password_and_the_embedded_node_do(connection: Connection, version: str, kind: str) -> None:
    check_consoles(make_site(connection, version, kind))
