"""Is a password one of those that everybody tries first? Asked of the system's libcrypt, which knows every hash kind.

Python 3.13 has no `crypt` module any more, and no library in pure Python knows yescrypt, Debian's own kind since 11.
libcrypt also lets other threads run while it works, which matters: a good hash takes a tenth of a second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from functools import cache, partial

COMMON = (
    "password", "changeme", "123456", "12345678", "secret", "admin", "root", "toor", "test", "guest", "default",
    "password1", "Password1", "passw0rd", "P@ssw0rd", "12345", "123456789", "qwerty", "letmein", "welcome", "debian",
    "ubuntu", "proxmox", "ansible", "packer", "vagrant", "temp",
)  # fmt: skip
CRYPT_DATA_BYTES = 32768
"""sizeof(struct crypt_data) in libxcrypt, crypt(3)."""
Crypt = Callable[[str, str], str | None]


@cache
def find_crypt() -> Crypt | None:
    """Return crypt(3): of a password and a hash, the hash again if they fit; None without libcrypt on this machine."""
    name = find_library("crypt")
    try:
        library = ctypes.CDLL(name) if name else None
        function = library.crypt_rn if library else None
    except (OSError, AttributeError):
        return None
    if function is None:
        return None
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
    function.restype = ctypes.c_char_p

    def crypt(password: str, setting: str) -> str | None:
        buffer = ctypes.create_string_buffer(CRYPT_DATA_BYTES)
        made = function(password.encode(), setting.encode(), buffer, CRYPT_DATA_BYTES)
        return None if made is None else made.decode(errors="replace")

    return crypt


def list_candidates(user: str) -> Iterator[str]:
    """Yield what is tried for a user, each once."""
    yield from dict.fromkeys([user, "", user * 2, f"{user}123", f"{user}1", *COMMON])


def find_password(user: str, hashed: str, crypt: Crypt) -> str | None:
    """Return the common password that a hash was made of, or None.

    :raises ValueError: the kind of hash is not known here.
    """
    if crypt("", hashed) is None:
        raise ValueError(hashed.split("$")[1] if hashed.count("$") > 1 else "unknown")
    candidates = list(list_candidates(user))
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(partial(_fits, crypt, hashed), candidates)
        return next((word for word, fits in zip(candidates, made, strict=True) if fits), None)


def _fits(crypt: Crypt, hashed: str, candidate: str) -> bool:
    return crypt(candidate, hashed) == hashed


def list_usable(shadow: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield user and hash of each line of shadow(5) with which somebody can log in; an empty hash needs no password."""
    for line in shadow:
        fields = line.split(":")
        if len(fields) > 1 and not fields[1].startswith(("!", "*")):
            yield fields[0], fields[1]
