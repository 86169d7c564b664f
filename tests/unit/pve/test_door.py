"""The door's own rules: every foreign exception is known, connections fit together, uploads stream."""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from types import ModuleType

import proxmoxer.backends.https
import proxmoxer.core
import pytest
import requests.exceptions

from goldsmith.base.errors import PveError, UsageError
from goldsmith.base.secrets import Secret
from goldsmith.pve.backup import find_archive
from goldsmith.pve.client import PveVersion, parse_version
from goldsmith.pve.connection import Connection
from goldsmith.pve.door import MAPPED
from goldsmith.pve.multipart import PIECE, MultipartBody
from goldsmith.pve.storage import Appliance, find_appliance
from goldsmith.pve.tls import choose_verify, find_authorities

PIN = ":".join(["0A"] * 32)


def _exceptions(module: ModuleType) -> set[type[Exception]]:
    """Exceptions that a module defines, warnings apart."""
    found = [member for _name, member in inspect.getmembers(module, inspect.isclass)]
    return {
        kind
        for kind in found
        if issubclass(kind, Exception) and not issubclass(kind, Warning) and kind.__module__ == module.__name__
    }


def test_every_exception_of_the_dependencies_is_mapped() -> None:
    """Fails when requests or proxmoxer grow a new one: decide what it means before it reaches a person."""
    modules = (requests.exceptions, proxmoxer.core, proxmoxer.backends.https)
    assert set().union(*map(_exceptions, modules)) == set(MAPPED)


def test_only_the_door_imports_proxmoxer() -> None:
    source = Path(inspect.getfile(Connection)).parents[1]
    pattern = re.compile(r"^\s*(from|import) proxmoxer\b", re.MULTILINE)
    importing = [path.name for path in source.rglob("*.py") if pattern.search(path.read_text())]
    assert importing == ["door.py"]


# --- connections


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": ""}, "not the name or address"),
        ({"host": "https://pve"}, "not the name or address"),
        ({"password": Secret("")}, "either an API token or a password"),
        ({"token_id": "ci", "token_secret": Secret("x")}, "either an API token or a password"),
        ({"token_id": "ci", "password": Secret("")}, "both its id and its secret"),
        ({"user": "root"}, "names no realm"),
        ({"fingerprint": "AB:CD"}, "not a SHA-256 fingerprint"),
        ({"fingerprint": "x" * 64}, "not a SHA-256 fingerprint"),
    ],
)
def test_values_that_do_not_fit_together(given: dict[str, object], said: str) -> None:
    values: dict[str, object] = {"host": "pve", "password": Secret("p")}
    with pytest.raises(UsageError, match=said):
        Connection(**{**values, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("token_id", ["ci", "root@pam!ci"])
def test_a_tokens_id_with_and_without_its_user(token_id: str) -> None:
    connection = Connection("pve", token_id=token_id, token_secret=Secret("x"))
    assert (connection.token_user, connection.token_name) == ("root@pam", "ci")
    assert not connection.is_root
    assert Connection("pve", password=Secret("x")).is_root


def test_addresses() -> None:
    def address(host: str) -> tuple[str, bool]:
        connection = Connection(host, password=Secret("x"))
        return connection.address, connection.endpoints[0].is_loopback

    assert address("pve.example") == ("pve.example:8006", False)
    assert address("fd00::1") == ("[fd00::1]:8006", False)
    assert address("127.0.0.1") == ("127.0.0.1:8006", True)
    assert address("localhost") == ("localhost:8006", True)


def test_a_certificate_is_always_checked_by_something() -> None:
    def verify(**given: object) -> bool | str:
        connection = Connection("pve", password=Secret("x"), **given)  # type: ignore[arg-type]
        return choose_verify(connection, connection.endpoints[0])

    assert verify() == find_authorities()
    assert find_authorities() is not False
    assert verify(ca_file=Path("/ca.pem")) == "/ca.pem"
    assert verify(fingerprint=PIN) is False  # the pin takes its place
    assert verify(fingerprint=PIN, ca_file=Path("/ca.pem")) == "/ca.pem"


# --- uploads


def test_a_body_is_as_long_as_it_says_and_in_order() -> None:
    data = bytes(PIECE * 2 + 5)
    seen: list[tuple[int, int]] = []
    fields = {"content": "vztmpl", "checksum-algorithm": "sha256", "checksum": "ab"}
    body = MultipartBody(fields, 'a "quoted".tar.zst', io.BytesIO(data), len(data), lambda *done: seen.append(done))
    pieces = list(body)
    whole = b"".join(pieces)
    assert len(whole) == len(body)
    assert max(map(len, pieces)) == PIECE
    order = [whole.index(f'name="{name}"'.encode()) for name in [*fields, "filename"]]
    assert order == sorted(order)
    assert b'filename="a \\"quoted\\".tar.zst"' in whole
    assert data in whole
    assert seen == [(PIECE, len(data)), (2 * PIECE, len(data)), (len(data), len(data))]


def test_a_body_takes_no_more_than_was_promised() -> None:
    source = io.BytesIO(b"0123456789")
    assert b"01234\r\n" in b"".join(MultipartBody({}, "a", source, 5))
    assert source.read() == b"56789"


# --- small parsers


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8.4.21", (8, 4, 21)), ("9.0.0~11", (9, 0, 0)), ("8.4-1", (8, 4, 1)), ("9.1", (9, 1, 0))],
)
def test_versions(text: str, expected: tuple[int, int, int]) -> None:
    version = parse_version(text)
    assert (version.major, version.minor, version.patch) == expected
    assert str(version) == text
    assert PveVersion(8, 3, 99) < parse_version("8.4.21") < parse_version("9.0.0") < parse_version("10.0.0")
    with pytest.raises(PveError, match="no version"):
        parse_version("unknown")


def test_the_archive_that_a_dump_names() -> None:
    lines = [
        "INFO: starting new backup job: vzdump 100 --mode stop",
        "INFO: creating vzdump archive '/var/lib/vz/dump/vzdump-lxc-100-2026_11_23-17_16_36.tar.zst'",
        "INFO: Total bytes written: 5",
    ]
    assert find_archive(lines) == "/var/lib/vz/dump/vzdump-lxc-100-2026_11_23-17_16_36.tar.zst"
    backup_server = ["INFO: creating Proxmox Backup Server archive 'ct/100/2026-11-23T17:16:36Z'"]
    assert find_archive(backup_server) == "ct/100/2026-11-23T17:16:36Z"
    assert find_archive(["INFO: creating Borg at the attic archive 'ct/100/x'"]) == "ct/100/x", "a provider's, PVE 9"
    assert find_archive(lines[:1]) is None


def test_the_newest_of_a_package_is_chosen_by_number() -> None:
    def appliance(version: str) -> Appliance:
        return Appliance(f"debian-12-standard_{version}_amd64.tar.zst", "debian-12-standard", version)

    known = [appliance(version) for version in ("12.2-1", "12.12-1", "12.7-1", "12.12-2")]
    newest = find_appliance("debian-12-standard", known)
    assert newest is not None
    assert newest.version == "12.12-2"
    assert find_appliance("debian-12-standard_12.7-1_amd64.tar.zst", known) == known[2]
    assert find_appliance("debian-12", known) is None
