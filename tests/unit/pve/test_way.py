"""Ways as values: words reach a program's end as they were, through any number of hops."""

from __future__ import annotations

import subprocess

from goldsmith.pve.way import Way

ODD = ["a b", "$HOME `id` $(id)", "'", '"', "\\", "*", "", "new\nline", "-n", "ü€", ";&|<>", "%s", "#!"]
PRINT = ["printf", "%s\\0", *ODD]


def start(way: Way) -> list[str]:
    said = subprocess.run(way.wrap(PRINT), capture_output=True, text=True, check=True).stdout
    return said.split("\0")[:-1]


def test_words_arrive_unchanged_without_a_shell_in_between() -> None:
    assert start(Way()) == ODD
    assert start(Way().lead("env", "A=b c").lead("nice", "--")) == ODD


def test_words_arrive_unchanged_behind_a_shell_that_takes_them_apart() -> None:
    remote = Way(("sh", "-c"), ("env", "A='x y"))
    assert start(remote) == ODD
    assert start(remote.lead("env", "B=$(nothing)").lead("sh", "-c", 'exec "$@"', "sh")) == ODD


def test_a_way_that_is_led_further_is_another_one() -> None:
    way = Way(("sudo", "-n", "--"))
    assert way.lead("lxc-attach", "--").outer == ("sudo", "-n", "--", "lxc-attach", "--")
    assert way.outer == ("sudo", "-n", "--")
