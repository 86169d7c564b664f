"""Passwords that everybody tries are found in any kind of hash that libcrypt knows."""

from __future__ import annotations

import ctypes

import pytest

from goldsmith.verify.hygiene.passwords import find_crypt, find_password, list_candidates, list_usable
from goldsmith.verify.outcome import State

from .making import judge, make_probe

crypt = find_crypt()
pytestmark = pytest.mark.skipif(crypt is None, reason="this machine has no libcrypt")
PREFIXES = ["$y$", "$2b$", "$6$", "$5$", "$1$"]
"""yescrypt, bcrypt, SHA-512, SHA-256, MD5 (crypt(5))."""


def make_setting(prefix: str) -> str:
    """What crypt_gensalt(3) gives for the cheapest of a kind."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt_gensalt.restype = ctypes.c_char_p
    library.crypt_gensalt.argtypes = [ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int]
    cost = {"$y$": 1, "$2b$": 4, "$6$": 1000, "$5$": 1000}.get(prefix, 0)
    made = library.crypt_gensalt(prefix.encode(), cost, b"0123456789abcdef0123456789abcdef", 32)
    assert made is not None
    return bytes(made).decode()


def make_hash(prefix: str, password: str) -> str:
    assert crypt is not None
    made = crypt(password, make_setting(prefix))
    assert made is not None
    return made


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_common_password_is_found_and_a_good_one_is_not(prefix: str) -> None:
    assert crypt is not None
    assert find_password("ops", make_hash(prefix, "changeme"), crypt) == "changeme"
    assert find_password("ops", make_hash(prefix, "ops"), crypt) == "ops"
    assert find_password("ops", make_hash(prefix, ""), crypt) == ""
    assert find_password("ops", make_hash(prefix, "correct horse battery"), crypt) is None


def test_a_hash_of_an_unknown_kind_is_not_judged() -> None:
    assert crypt is not None
    with pytest.raises(ValueError, match="argon2id"):
        find_password("ops", "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$abc", crypt)
    outcome = judge("no-default-passwords", make_probe(shadow="ops:$argon2id$v=19$m=1$c2$abc:1::::::"))
    assert (outcome.state, outcome.message.partition(":")[0]) == (State.SKIPPED, "cannot be judged")


def test_the_check_names_the_account_and_not_the_password() -> None:
    outcome = judge("no-default-passwords", make_probe(shadow=f"ops:{make_hash('$6$', 'letmein')}:1::::::"))
    assert outcome.state is State.FAILED
    assert outcome.message == "passwords that everybody tries: ops has one"
    assert "letmein" not in outcome.message + outcome.detail


def test_a_good_password_passes_and_a_bad_one_beside_an_unknown_kind_still_fails() -> None:
    good, bad = make_hash("$6$", "correct horse"), make_hash("$y$", "root")
    assert judge("no-default-passwords", make_probe(shadow=f"ops:{good}:1::::::")).state is State.PASSED
    lines = f"a:$argon2id$x$y:1::::::\nroot:{bad}:1::::::"
    assert judge("no-default-passwords", make_probe(shadow=lines)).state is State.FAILED


def test_locked_accounts_are_not_tried() -> None:
    assert list(list_usable(["a:!:1", "b:*:1", "c:!$6$x$y:1", "d::1", "e:$6$x$y:1", "f"])) == [
        ("d", ""), ("e", "$6$x$y"),
    ]  # fmt: skip


def test_candidates_hold_the_users_name_and_no_word_twice() -> None:
    words = list(list_candidates("admin"))
    assert words[0] == "admin"
    assert len(words) == len(set(words))
