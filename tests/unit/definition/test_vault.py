"""Secrets: where they come from, which one wins, and that they are never shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.definition.vault import PASSWORD_FORM

from .making import VAULT_PASSWORD, Place, encrypt, inline

GIVEN = f" (accepted: {PASSWORD_FORM})"
DAMAGED = "!vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      6162zz\n"


def password_of(place: Place, **environment: str) -> str:
    password = place.load(environment).variables.template_password
    assert password is not None
    return password.reveal()


def test_the_environment_wins_over_the_vault_and_that_over_the_variables(place: Place) -> None:
    place.write("template_password: from-vars\ntemplate_user: web\n")
    assert password_of(place) == "from-vars"
    place.write("template_password: from-vars\n", vault="template_password: from-vault\ngit_user: Vera\n")
    assert password_of(place) == "from-vault"
    assert place.load().variables.git_user == "Vera"
    assert password_of(place, TEMPLATE_PASSWORD="from-{{ environment }}") == "from-{{ environment }}"
    assert password_of(place, TEMPLATE_PASSWORD="") == "from-vault"


def test_only_secrets_are_taken_from_the_environment(place: Place) -> None:
    image = place.load({"TEMPLATE_USER": "mallory", "PROXMOX_API_HOST": "pve", "PROXMOX_API_TOKEN_SECRET": "t0ken"})
    assert image.variables.template_user == "ops"
    assert image.variables.proxmox_api_host is None
    assert image.variables.proxmox_api_token_secret == Secret("t0ken")


def test_a_bad_secret_of_the_environment_names_its_variable(place: Place) -> None:
    assert place.fail({"TEMPLATE_PASSWORD": "gehe\nim"}) == [
        "vars.yml: template_password (environment variable TEMPLATE_PASSWORD) holds a line break or another control "
        "character (accepted: text in one line, in quotes if it could be read as something else)"
    ]


@pytest.mark.parametrize("written", ["in the vault\n", "in the vault"])
def test_inline_values_are_decrypted_without_the_line_break_at_their_end(written: str, place: Place) -> None:
    place.give_password()
    place.write(f"template_password: {inline(written)}db_password: {inline('geheim')}users:\n  - {inline('a {{ b }}')}")
    assert password_of(place) == "in the vault"
    image = place.load()
    assert image.extra == {"db_password": Secret("geheim"), "users": [Secret("a {{ b }}")]}
    assert {secret.reveal() for secret in image.secrets} == {"in the vault", "geheim", "a {{ b }}"}


def test_a_whole_encrypted_vault_is_read_and_its_values_are_secrets(place: Place) -> None:
    text = "template_password: pw\ntemp_vmid: 905\nx: !unsafe '{{'\n"
    text += "db: {user: u-s-r, port: 5432, pin: 22, ssl: yes, more: ~}\n"
    place.give_password()
    place.write("", vault=encrypt(text))
    image = place.load()
    assert image.variables.temp_vmid == 905
    assert image.extra == {
        "db": {"user": Secret("u-s-r"), "port": Secret("5432"), "pin": 22, "ssl": True, "more": None},
        "x": Secret("{% raw %}{{{% endraw %}"),
    }


def test_a_whole_encrypted_vars_file_is_read(place: Place) -> None:
    place.give_password()
    place.write(encrypt("template_user: web\n"))
    assert place.load().variables.template_user == "web"


def test_mistakes_in_an_encrypted_file_have_their_line_and_show_nothing(place: Place) -> None:
    place.give_password()
    place.write("", vault=encrypt("a: 1\ntemp_disk_size: geheim\ntemp_gateway: [geheim]\ntemplate_uid: 7\n"))
    found = place.fail()
    assert [line.partition(" (")[0] for line in found] == [
        "vault.yml:2: temp_disk_size: what is encrypted there is not accepted",
        "vault.yml:3: temp_gateway is a list, not text",
        "vault.yml:4: template_uid: what is encrypted there is not accepted",
    ]
    place.write("", vault=encrypt("a: 1\ngeheim\n"))
    assert place.fail() == ["vault.yml:3: is not an Ansible vars file (line of the decrypted text)"]
    place.write("", vault=encrypt("geheim"))
    assert place.fail() == ["vault.yml:1: is not an Ansible vars file (line of the decrypted text)"]


def test_without_a_password_the_first_encrypted_value_is_shown_and_how_to_give_one(place: Place) -> None:
    place.write(f"proxmox_api_host: pve\na: 1\ntemplate_password: {inline('x')}db: {inline('y')}temp_vmid: 9\n")
    found = place.fail()
    wanted = "vars.yml:3: template_password is encrypted with ansible-vault, and no vault password is given"
    assert wanted + GIVEN in found
    assert not any("db" in line for line in found)
    assert any("temp_vmid: 9 is too small" in line for line in found)


def test_a_whole_file_without_a_password_is_one_mistake(place: Place) -> None:
    """Nothing is said to be missing that may be in it: neither the token nor the password of the template."""
    place.write('proxmox_api_host: pve\ngit_user: "{{ in_vault }}"\n', vault=encrypt("in_vault: x\n"))
    wanted = "vault.yml:1: is encrypted with ansible-vault, and no vault password is given"
    assert place.fail() == [wanted + GIVEN]


def test_a_secret_that_cannot_be_decrypted_is_not_called_missing(place: Place) -> None:
    place.write(f"proxmox_api_host: pve\nproxmox_api_token_id: ci\nproxmox_api_token_secret: {inline('x')}")
    assert not any("token_secret is missing" in line for line in place.fail())


def test_what_another_value_wins_over_need_not_be_readable(place: Place) -> None:
    place.write(f"template_password: {inline('x')}", vault="template_password: plain\n")
    assert password_of(place) == "plain"
    place.write("", vault=f"template_password: {inline('x')}")
    assert password_of(place, TEMPLATE_PASSWORD="given") == "given"


def test_a_wrong_password_is_shown_at_each_value(place: Place) -> None:
    place.give_password("wrong")
    place.write(f"a: {inline('x')}", vault=encrypt("b: 1\n"))
    said = "cannot be decrypted: the vault password is a wrong one" + GIVEN
    assert place.fail() == [f"vars.yml:1: a {said}", f"vault.yml:1: {said}"]


def test_what_is_no_vault_text_is_refused(place: Place) -> None:
    place.give_password()
    place.write(f"a: 1\nb: {DAMAGED}c: !vault plain\nd: !vault ''\n", vault="$ANSIBLE_VAULT;1.1;AES256\n\n")
    said = "cannot be decrypted: it is not what ansible-vault writes" + GIVEN
    assert place.fail() == [
        f"vars.yml:2: b {said}",
        f"vars.yml:5: c {said}",
        f"vars.yml:6: d {said}",
        f"vault.yml:1: {said}",
    ]


def test_a_value_that_is_not_text_is_refused(place: Place) -> None:
    from ansible.parsing.vault import VaultLib, VaultSecret  # type: ignore[import-untyped]

    place.give_password()
    raw = VaultLib([("default", VaultSecret(VAULT_PASSWORD.encode()))]).encrypt(b"\xff\xfe").decode()
    place.write("", vault=raw)
    assert place.fail() == ["vault.yml:1: what is encrypted is not UTF-8 text" + GIVEN]


def test_the_password_file_of_the_environment_counts_when_no_other_is_named(place: Place) -> None:
    place.give_password()
    file, place.password_file = place.password_file, None
    place.write("", vault=encrypt("template_password: pw\n"))
    assert password_of(place, ANSIBLE_VAULT_PASSWORD_FILE=str(file)) == "pw"
    (place.home / "word").write_text(VAULT_PASSWORD)
    assert password_of(place, ANSIBLE_VAULT_PASSWORD_FILE="~/word") == "pw"
    place.password_file = file
    assert password_of(place, ANSIBLE_VAULT_PASSWORD_FILE="/nowhere") == "pw"


def make_program(place: Place, text: str, name: str = "ask") -> Path:
    program = place.root / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o700)
    place.password_file = program
    return program


def test_an_executable_password_file_is_run_in_the_users_environment(place: Place) -> None:
    make_program(place, 'echo "$WORD"')
    place.write("", vault=encrypt("template_password: pw\n"))
    assert password_of(place, WORD=VAULT_PASSWORD) == "pw"


def test_a_password_client_is_told_the_vault_id(place: Place) -> None:
    make_program(place, f'[ "$*" = "--vault-id default" ] && echo "{VAULT_PASSWORD}"', "ask-client.sh")
    place.write("", vault=encrypt("template_password: pw\n"))
    assert password_of(place) == "pw"


def test_a_password_program_is_run_once(place: Place) -> None:
    make_program(place, f'echo run >> "{place.root}/runs"; echo "{VAULT_PASSWORD}"')
    place.write(f"a: {inline('x')}b: {inline('y')}", vault=encrypt("template_password: pw\n"))
    assert password_of(place) == "pw"
    assert (place.root / "runs").read_text() == "run\n"


def test_a_password_that_cannot_be_had_says_why(place: Place) -> None:
    place.write("", vault=encrypt("template_password: pw\n"))
    program = make_program(place, "echo geheim; echo locked out >&2; exit 3")
    wanted = f"vault.yml:1: is encrypted with ansible-vault, and the vault password program {program} ended with code 3"
    assert place.fail() == [f"{wanted}: locked out{GIVEN}"]
    empty, binary = place.root / "empty", place.root / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff")
    for file, reason in (
        (place.root / "none", "cannot be read: No such file or directory"),
        (place.root, "cannot be read: Is a directory"),
        (binary, "cannot be read: is not UTF-8 text"),
        (empty, "gives no password"),
    ):
        place.password_file = file
        [problem] = place.fail()
        assert f"the vault password file {file} {reason}" in problem


def test_an_ansible_that_cannot_start_is_told_apart_from_a_wrong_password(place: Place) -> None:
    place.give_password()
    place.write("", vault=encrypt("template_password: pw\n"))
    (place.root / "ansible.cfg").write_text("[defaults]\nforks = many\n")
    program = (
        "from pathlib import Path; from goldsmith.base.errors import DefinitionError\n"
        "from goldsmith.definition.load import Surroundings, load_image\n"
        f"around = Surroundings({{}}, Path({str(place.home)!r}), Path({str(place.password_file)!r}))\n"
        f"try: load_image(Path({str(place.directory)!r}), around)\n"
        "except DefinitionError as error: print(error.detail)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place.root, capture_output=True, text=True, check=True, timeout=60,
        env={"ANSIBLE_CONFIG": str(place.root / "ansible.cfg"), "HOME": str(place.home), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "vault.yml:1: is encrypted with ansible-vault, and Ansible cannot start: " in done.stdout
    assert "'DEFAULT_FORKS'" in done.stdout
