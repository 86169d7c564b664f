"""What guests say of themselves."""

from __future__ import annotations

import re

from goldsmith.fleet.marks import (
    Labels,
    Record,
    Role,
    describe,
    find_server,
    parse_labels,
    parse_record,
    render_labels,
)

RECORD = Record(
    run="abc", server="web1", strategy="swap", node="pve1", image="debian-12.base", tag="20261124.1", old=100, new=101,
    data=(("/srv/data", "local:100/vm-100-disk-1.raw"),), by="jane@ops since 2026-11-24 10:00 UTC",
)  # fmt: skip


def test_tags_both_ways() -> None:
    labels = Labels(Role.CURRENT, "debian-12.base", "20261124.12", "0123abcd", "4567cdef")
    tags = render_labels(labels, ("web",))
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_.+-]*", tag) for tag in tags), "PVE 8.4, format pve-tag"
    assert parse_labels(tags) == labels
    assert labels.version == "debian-12.base:20261124.12"


def test_tags_of_others_say_nothing() -> None:
    assert parse_labels(("web", "golden-20261124.1")) == Labels()
    assert parse_labels(()) == Labels()


def test_a_record_survives_a_description() -> None:
    text = describe("web1", RECORD.version, Role.NEXT, RECORD)
    assert parse_record(text) == RECORD
    assert find_server(text) == "web1"
    assert text.splitlines()[0].startswith("This becomes **web1**, from *debian-12.base:20261124.1*")
    assert parse_record(describe("web1", RECORD.version, Role.CURRENT)) is None


def test_what_is_no_record_is_none() -> None:
    assert parse_record("goldsmith replacement {broken") is None
    assert parse_record('goldsmith replacement {"run": "x"}') is None
    assert parse_record("somebody's own notes") is None
    assert find_server("somebody's own notes") == ""


def test_a_record_of_a_later_goldsmith_is_read_as_far_as_it_is_known() -> None:
    text = describe("web1", "x", Role.NEXT, RECORD).replace('{"by"', '{"later":1,"by"')
    assert parse_record(text) == RECORD
