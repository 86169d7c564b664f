"""What is kept of users and their secrets, and tickets."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.node.access.store import (
    ROOT,
    AccessStore,
    Pool,
    User,
    has_password,
    hash_password,
    hash_secret,
    make_uuid,
)
from goldsmith.node.access.tickets import LIFETIME, Tickets
from goldsmith.node.faults import ApiFault


def test_passwords_are_kept_as_salted_hashes() -> None:
    kept = hash_password(Secret("correct horse"))
    assert "horse" not in kept
    assert kept != hash_password(Secret("correct horse"))
    assert has_password(kept, Secret("correct horse"))
    assert not has_password(kept, Secret("correct hors"))
    assert not has_password("", Secret(""))
    assert not has_password("", Secret("x"))


def test_a_token_is_kept_as_a_hash_and_renewed_with_another_secret(tmp_path: Path) -> None:
    store = AccessStore(tmp_path / "access.json")
    first = store.set_token(ROOT, "ci", privsep=False)
    second = store.set_token(ROOT, "ci", privsep=False)
    assert first != second
    token = store.load().get_token(ROOT, "ci")
    assert token.hashed == hash_secret(second)
    assert second.reveal() not in (tmp_path / "access.json").read_text()
    assert (tmp_path / "access.json").stat().st_mode & 0o777 == 0o600


def add_then_fail(store: AccessStore) -> None:
    with store.change() as access:
        access.users["b@pve"] = User()
        access.get_user("c@pve")


def test_what_fails_is_not_written(tmp_path: Path) -> None:
    store = AccessStore(tmp_path / "access.json")
    with store.change() as access:
        access.users["a@pve"] = User()
    with pytest.raises(ApiFault, match="no such user"):
        add_then_fail(store)
    assert set(store.load().users) == {ROOT, "a@pve"}
    with pytest.raises(ApiFault, match="no such user"):
        store.set_password("b@pve", Secret("x"))


def add_users(path: Path, name: str) -> None:
    for number in range(10):
        with AccessStore(path).change() as access:
            access.users[f"{name}{number}@pve"] = User()


def test_changes_at_the_same_time_all_count(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    with ThreadPoolExecutor(3) as pool:  # a lock counts for each opened file, so threads meet as processes do
        list(pool.map(add_users, [path] * 3, "abc"))
    assert len(AccessStore(path).load().users) == 31


def test_what_others_wrote_is_seen(tmp_path: Path) -> None:
    ours, theirs = AccessStore(tmp_path / "access.json"), AccessStore(tmp_path / "access.json")
    with ours.change():
        pass
    assert "x@pve" not in ours.load().users
    with theirs.change() as access:
        access.users["x@pve"] = User()
    assert "x@pve" in ours.load().users


def test_a_guest_is_in_one_pool_at_most(tmp_path: Path) -> None:
    store = AccessStore(tmp_path / "access.json")
    with store.change() as access:
        access.pools.update(a=Pool(vms=[100]), b=Pool())
    store.add_to_pool("b", 100)
    assert store.load().find_pool_of(100) == "b"
    store.forget_guest(100)
    assert store.load().find_pool_of(100) is None
    with pytest.raises(ApiFault, match="pool 'nope' does not exist"):
        store.add_to_pool("nope", 100)


def test_token_secrets_look_as_proxmoxs_do() -> None:
    assert len({make_uuid() for _ in range(100)}) == 100
    assert make_uuid()[14] == "4"


def test_tickets_are_signed_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = Tickets(tmp_path / "authkey")
    ticket, csrf = tickets.make_ticket("a@pve"), tickets.make_csrf_token("a@pve")
    assert tickets.find_user(ticket) == "a@pve"
    assert Tickets(tmp_path / "authkey").find_user(ticket) == "a@pve"
    assert Tickets(tmp_path / "another").find_user(ticket) is None
    assert tickets.has_csrf_token(csrf, "a@pve")
    assert not tickets.has_csrf_token(csrf, "b@pve")
    assert not tickets.has_csrf_token(ticket.rpartition(":")[2], "a@pve")
    for changed in (ticket.replace("a@pve", "b@pve"), ticket[:-1], "PVE:a@pve:00::x", "", "PVE", "x" + ticket):
        assert tickets.find_user(changed) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LIFETIME + 1)
    assert tickets.find_user(ticket) is None
    assert not tickets.has_csrf_token(csrf, "a@pve")


def test_the_key_is_for_root_only(tmp_path: Path) -> None:
    Tickets(tmp_path / "authkey")
    assert (tmp_path / "authkey").stat().st_mode & 0o777 == 0o600
