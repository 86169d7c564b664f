"""Who can get in: accounts, passwords, root, keys of a build."""

from __future__ import annotations

from collections.abc import Iterator

from goldsmith.verify.hygiene.passwords import find_crypt, find_password, list_usable
from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe
from goldsmith.verify.hygiene.registry import Judgement, check, failed, judge_list, passed, skipped

FIRST_USER, NOBODY = 1000, 65534
"""Debian policy 9.2.2: ordinary users begin at 1000; 65534 is nobody."""
BUILD_KEY = " goldsmith-"
"""How the comment of a key begins that goldsmith makes for a build or a test."""


@check("no-leftover-users", "passwd")
def judge_users(probe: Probe, policy: Policy) -> Judgement:
    """Compare ordinary accounts with those that the image is meant to have."""
    found = [f"{user} (uid {uid})" for user, uid in _list_users(probe) if user not in policy.users]
    known = ", ".join(sorted(policy.users)) or "none"
    return judge_list(found, "accounts that no variable names", f"ordinary accounts: {known}")


def _list_users(probe: Probe) -> Iterator[tuple[str, int]]:
    for line in probe.lines("passwd"):
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdecimal() and int(fields[2]) >= FIRST_USER and int(fields[2]) != NOBODY:
            yield fields[0], int(fields[2])


@check("no-build-key", "authorized-keys")
def judge_keys(probe: Probe, policy: Policy) -> Judgement:
    """Look for keys of ours, but for those of this test."""
    ours = {" ".join(key.split()[:2]) for key in policy.own_keys}
    lines = [line.split("\t", 2) for line in probe.lines("authorized-keys")]
    found = [f"{user}: {file} has the key {key.split()[-1]}" for user, file, key in _whole(lines)
             if not any(one in key for one in ours) and BUILD_KEY in key]  # fmt: skip
    return judge_list(found, "keys of a build are still let in", "no key of a build is let in")


def _whole(lines: list[list[str]]) -> Iterator[tuple[str, str, str]]:
    for words in lines:
        if len(words) == 3 and not words[2].lstrip().startswith("#"):
            yield words[0], words[1], words[2]


@check("root-locked", "shadow")
def judge_root(probe: Probe, _policy: Policy) -> Judgement:
    """Look at root's field in /etc/shadow."""
    if not any(line.startswith("root:") for line in probe.lines("shadow")):
        return passed("root is not in /etc/shadow")
    usable = dict(list_usable(probe.lines("shadow")))
    if "root" not in usable:
        return passed("root's password is locked")
    if not usable["root"]:
        return failed("root can log in without a password", "lock it: passwd -l root")
    return failed("root has a password", "lock it: passwd -l root")


@check("no-default-passwords", "shadow", "passwd")
def judge_passwords(probe: Probe, _policy: Policy) -> Judgement:
    """Try the passwords that everybody tries first."""
    usable = [*list_usable(probe.lines("shadow")), *_list_unshadowed(probe)]
    without = [f"{user} needs no password" for user, hashed in usable if not hashed]
    found, unknown = _try_passwords([(user, hashed) for user, hashed in usable if hashed])
    if without or found:
        return judge_list([*without, *found], "passwords that everybody tries", "")
    if unknown:
        return skipped(f"cannot be judged: {'; '.join(unknown)}")
    users = ", ".join(user for user, _ in usable)
    return passed(f"not guessed: {users}" if users else "no account has a password")


def _list_unshadowed(probe: Probe) -> Iterator[tuple[str, str]]:
    """Yield hashes that stand in /etc/passwd itself, where everybody can read them."""
    for user, hashed in list_usable(probe.lines("passwd")):
        if hashed != "x":
            yield user, hashed


def _try_passwords(accounts: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return what was guessed, and what could not be tried. The password itself is not told: logs travel."""
    crypt = find_crypt()
    if crypt is None:
        return [], ["this machine has no libcrypt"] if accounts else []
    found, unknown = [], []
    for user, hashed in accounts:
        try:
            if find_password(user, hashed, crypt) is not None:
                found.append(f"{user} has one")
        except ValueError as error:
            unknown.append(f"{user} has a hash of a kind that is not known here ({error})")
    return found, unknown
