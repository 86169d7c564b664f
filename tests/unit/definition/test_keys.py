"""Which files of keys are accepted, and that a private one is never shown."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from goldsmith.definition.keys import parse_public_key

from .making import Place, PrivateKey, make_private, make_public


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["ed25519", "rsa", "ecdsa-256", "ecdsa-521"],
)
def test_a_public_key_is_taken_without_what_surrounds_it(key: PrivateKey) -> None:
    line = make_public(key, "me @ here")
    assert parse_public_key(f"# mine\n\n  {line}\r\n") == line
    bare = make_public(key, "")
    assert parse_public_key(bare) == bare


GOOD = make_public(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = make_public(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n-----END OPENSSH PRIVATE KEY-----\n"
KIND, BLOB, COMMENT = GOOD.split(" ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        (f"{GOOD}\n{OTHER}\n", "holds 2 keys, not one"),
        (f'from="10.0.0.1" {GOOD}', "holds no OpenSSH public key of a type that sshd takes"),
        (BLOB, "holds no OpenSSH public key of a type that sshd takes"),
        (f"ssh-dss {BLOB}", "holds no OpenSSH public key of a type that sshd takes"),
        (f"ssh-rsa {BLOB}", "holds a damaged ssh-rsa key, or one that is too short"),
        (f"{KIND}", "holds a damaged ssh-ed25519 key"),
        (f"{KIND} {BLOB[:-4]}", "holds a damaged ssh-ed25519 key"),
        (f"{KIND} {BLOB}AAAA", "holds a damaged ssh-ed25519 key"),
        (f"{KIND} not*base64", "holds a damaged ssh-ed25519 key"),
        (f"{KIND} größe", "holds a damaged ssh-ed25519 key"),
        (f"{KIND} {BLOB} me\x1b[2J", "holds control characters"),
        (PRIVATE, "holds a private key; give the public one, usually the same name with .pub"),
        (f"{GOOD}\n{PRIVATE}", "holds a private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "holds a private key"),
    ],
)
def test_what_is_no_public_key_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse_public_key(text)


def test_the_named_key_is_found_at_home_and_beside_the_variables(place: Place) -> None:
    for directory, named in ((place.home, "~/key.pub"), (place.directory, "key.pub")):
        line = make_public()
        (directory / "key.pub").write_text(line + "\n")
        place.write(f"ssh_key_file: {named}\n")
        assert place.load().ssh_key == line


def test_a_private_key_is_refused_and_not_shown(place: Place) -> None:
    private = make_private()
    (place.home / "id").write_text(private)
    place.write("a: 1\nssh_key_file: ~/id\n")
    [problem] = place.fail()
    assert problem.startswith(f"vars.yml:2: ssh_key_file: {place.home}/id holds a private key; give the public one")
    assert not any(line in problem for line in private.splitlines()[1:-1])


def test_a_named_key_that_is_no_file_is_refused(place: Place) -> None:
    os.mkfifo(place.home / "pipe")
    (place.home / "binary").write_bytes(b"\xff\xfe")
    for name, reason in {"pipe": "is no file", ".ssh": "is no file", "binary": "holds no text"}.items():
        place.write(f"ssh_key_file: ~/{name}\n")
        assert f"ssh_key_file: {place.home}/{name} {reason}" in place.fail()[0]


def test_without_a_named_key_the_first_valid_one_at_home_is_taken(place: Place) -> None:
    ssh = place.home / ".ssh"
    assert place.load().ssh_key is None
    rsa_line, ecdsa_line, best = make_public(comment="rsa"), make_public(comment="ecdsa"), make_public(comment="best")
    (ssh / "id_rsa.pub").write_text(rsa_line)
    assert place.load().ssh_key == rsa_line
    (ssh / "id_ecdsa.pub").write_text(ecdsa_line)
    assert place.load().ssh_key == ecdsa_line
    (ssh / "id_ed25519.pub").write_text(make_private())
    assert place.load().ssh_key == ecdsa_line
    (ssh / "id_ed25519.pub").write_text(best)
    assert place.load().ssh_key == best
