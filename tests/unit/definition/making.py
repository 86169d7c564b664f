"""Image folders for tests, and what an error about one says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from goldsmith.base.errors import DefinitionError
from goldsmith.definition.image import Image
from goldsmith.definition.load import Surroundings, load_image

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
VAULT_PASSWORD = "the vault's word"


def make_public(key: PrivateKey | None = None, comment: str = "me@here") -> str:
    made = (key or ed25519.Ed25519PrivateKey.generate()).public_key()
    line = made.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{line.decode()} {comment}".strip()


def make_private() -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def encrypt(text: str, password: str = VAULT_PASSWORD) -> str:
    """What `ansible-vault encrypt` writes."""
    from ansible.parsing.vault import VaultLib, VaultSecret  # type: ignore[import-untyped]

    written: bytes = VaultLib([("default", VaultSecret(password.encode()))]).encrypt(text)
    return written.decode()


def inline(text: str, password: str = VAULT_PASSWORD) -> str:
    """What `ansible-vault encrypt_string` prints, to stand after `name: `."""
    return "!vault |\n" + "".join(f"      {line}\n" for line in encrypt(text, password).splitlines())


class Place:
    """One image folder, `images/lxc` in a project of its own, and what surrounds it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.directory = root / "project" / "images" / "lxc"
        self.directory.mkdir(parents=True)
        (self.home / ".ssh").mkdir(parents=True)
        self.environment: dict[str, str] = {}
        self.password_file: Path | None = None
        self.write("", playbook="- hosts: all\n")

    def write(self, text: str, *, vault: str | None = None, playbook: str | None = None) -> None:
        (self.directory / "vars.yml").write_text(text, encoding="utf-8", errors="surrogatepass")
        for name, content in {"vault.yml": vault, "playbook.yml": playbook}.items():
            if content is not None:
                (self.directory / name).write_text(content)

    def give_password(self, password: str = VAULT_PASSWORD) -> None:
        self.password_file = self.root / "vault-password"
        self.password_file.write_text(f"{password}\n")

    def load(self, environment: Mapping[str, str] | None = None) -> Image:
        seen = {**self.environment, **(environment or {})}
        return load_image(self.directory, Surroundings(seen, self.home, self.password_file))

    def fail(self, environment: Mapping[str, str] | None = None) -> list[str]:
        """Load, expect an error, and return its problems each file relative to the image's folder."""
        with pytest.raises(DefinitionError) as caught:
            self.load(environment)
        assert caught.value.__context__ is None  # nothing that could show more in a traceback
        return [str(problem).removeprefix(f"{self.directory}/") for problem in caught.value.problems]
