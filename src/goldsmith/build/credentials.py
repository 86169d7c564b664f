"""Keys and passwords: the key of builds, and what goldsmith makes for a project whose owner has given none."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from passlib.hash import sha512_crypt

from goldsmith.base.files import open_lock, write_atomic
from goldsmith.base.process import run
from goldsmith.base.secrets import Secret
from goldsmith.definition.image import Image

BUILD_KEY = "goldsmith-build"
"""Comment of the build key."""
ROUNDS = 200_000
"""Of SHA-512 crypt: about a tenth of a second for who checks one password, ages for who tries many."""


@dataclass(frozen=True)
class Credentials:
    """What opens the account that an image gets. `notices` tell a person what was made for him."""

    password_hash: Secret
    ssh_key: str
    notices: tuple[str, ...] = ()


def make_key_pair(private: Path, comment: str) -> str:
    """Make an ed25519 key pair without a passphrase and return its public line."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", private])
    return read_public_key(private)


def read_public_key(private: Path) -> str:
    """Return the public line beside a private key."""
    return private.with_name(private.name + ".pub").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class BuildKey:
    """The key that opens build guests, and nothing else: sealing takes it out of every image."""

    private: Path
    public: str
    """Its line for authorized_keys."""

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it: `SHA256:...` (RFC 4716 calls the data that is digested the key blob)."""
        blob = base64.b64decode(self.public.split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def ensure_build_key(state: Path) -> BuildKey:
    """Return the key of builds of this user; it is made once, because finished layers let nobody else in.

    :param state: goldsmith's own directory on this machine.
    """
    private = state / "build-key" / "id_ed25519"
    private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_lock(private.parent / "lock", timeout=30, what="the key of builds"):
        public = read_public_key(private) if private.exists() else make_key_pair(private, BUILD_KEY)
    return BuildKey(private, public)


def ensure_credentials(image: Image) -> Credentials:
    """Return an image's password hash and key; what the user has not given is made once and kept in `.goldsmith/`."""
    notices: list[str] = []
    image.private.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_lock(image.private / "lock", timeout=30, what=f"{image.private}"):  # two builds may begin at once
        password = image.variables.template_password or _ensure_password(image, notices)
        ssh_key = image.ssh_key or _ensure_ssh_key(image, notices)
        return Credentials(_ensure_hash(image, password), ssh_key, tuple(notices))


def has_credentials(image: Image) -> bool:
    """Tell whether the image was built here before, so that `ensure_credentials` makes nothing."""
    return (image.private / f"{image.name}.shadow").exists()


def _ensure_password(image: Image, notices: list[str]) -> Secret:
    file = image.private / f"{image.name}.password"
    if not file.exists():
        write_atomic(file, secrets.token_urlsafe(15) + "\n", mode=0o600)
    notices.append(f"no template_password is given: that of {image.variables.template_user} is in {file}")
    return Secret(file.read_text(encoding="utf-8").strip())


def _ensure_ssh_key(image: Image, notices: list[str]) -> str:
    file = image.private / "id_ed25519"
    if not file.exists():
        make_key_pair(file, f"{image.variables.template_user}@goldsmith")
    notices.append(f"no ssh_key_file is given, and you have no key in ~/.ssh: {file} is used")
    return read_public_key(file)


def _ensure_hash(image: Image, password: Secret) -> Secret:
    """Return the hash that an earlier build used as long as the password is the same.

    A new salt each time would make every build differ from the one before.
    """
    file = image.private / f"{image.name}.shadow"
    if file.exists():
        known = file.read_text(encoding="utf-8").strip()
        if sha512_crypt.identify(known) and sha512_crypt.verify(password.reveal(), known):
            return Secret(known)
    made = sha512_crypt.using(rounds=ROUNDS).hash(password.reveal())
    write_atomic(file, made + "\n", mode=0o600)
    return Secret(made)
