from __future__ import annotations

import dataclasses
from pathlib import Path

from passlib.hash import sha512_crypt

from goldsmith.base.secrets import Secret
from goldsmith.build.credentials import ensure_credentials
from goldsmith.build.play import WITHHELD, list_known, list_recorded, make_play
from goldsmith.definition.image import Image
from tests.unit.build.making import make_image


def project_image(tmp_path: Path, **values: object) -> Image:
    image = make_image(**values)
    return dataclasses.replace(image, project=tmp_path, directory=tmp_path / "images" / "lxc")


def test_a_given_password_becomes_a_hash_that_stays_the_same(tmp_path: Path) -> None:
    image = project_image(tmp_path, template_password=Secret("s3cret word"))
    first, second = ensure_credentials(image), ensure_credentials(image)
    assert sha512_crypt.verify("s3cret word", first.password_hash.reveal())
    assert first == second
    assert first.notices == ()
    assert all("s3cret" not in path.read_text() for path in image.private.iterdir())


def test_another_password_gives_another_hash(tmp_path: Path) -> None:
    first = ensure_credentials(project_image(tmp_path, template_password=Secret("one")))
    second = ensure_credentials(project_image(tmp_path, template_password=Secret("two")))
    assert sha512_crypt.verify("two", second.password_hash.reveal())
    assert first.password_hash != second.password_hash


def test_without_a_password_a_random_one_is_made_once_and_told(tmp_path: Path) -> None:
    image = project_image(tmp_path)
    first = ensure_credentials(image)
    file = image.private / "golden.password"
    assert sha512_crypt.verify(file.read_text().strip(), first.password_hash.reveal())
    assert file.stat().st_mode & 0o777 == 0o600
    assert image.private.stat().st_mode & 0o777 == 0o700
    assert first.notices == (f"no template_password is given: that of ops is in {file}",)
    assert ensure_credentials(image) == first


def test_without_any_key_a_pair_is_made_once(tmp_path: Path) -> None:
    image = dataclasses.replace(project_image(tmp_path, template_password=Secret("x")), ssh_key=None)
    first = ensure_credentials(image)
    assert first.ssh_key.startswith("ssh-ed25519 ")
    assert (image.private / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert ensure_credentials(image).ssh_key == first.ssh_key


def test_the_playbook_gets_the_hash_and_never_the_password(tmp_path: Path) -> None:
    image = project_image(tmp_path, template_password=Secret("s3cret"), git_user="Ops", apps=["git"])
    credentials = ensure_credentials(image)
    given = make_play(image, credentials).variables
    assert given["template_password_hash"] == credentials.password_hash
    assert given["template_ssh_key"] == "ssh-ed25519 AAAA me"
    assert "template_password" not in given
    assert (given["git_user"], given["git_email"], given["apps"], given["domain"]) == ("Ops", None, ["git"], "lab.test")


def test_known_variables_are_plain_values() -> None:
    known = list_known(make_image(temp_ip_address="10.86.3.4/16", temp_disk_size="local:4.5", dump_dir="/srv"))
    assert (known["temp_ip_address"], known["temp_disk_size"], known["dump_dir"]) == (
        "10.86.3.4/16",
        "local:4.5",
        "/srv",
    )
    assert known["template_name"] == "golden"


def test_a_record_holds_nothing_secret_not_even_by_its_name() -> None:
    extra = {
        "db_password": "hunter2", "token": Secret("abc"), "nested": {"api_key": "k", "port": 5432},
        "list": [Secret("x"), "y"], "use_tokens": True, "domain": "lab.test",
    }  # fmt: skip
    image = dataclasses.replace(make_image(template_password=Secret("p")), extra=extra)
    recorded = list_recorded(image)
    assert recorded["db_password"] == recorded["token"] == WITHHELD
    assert recorded["nested"] == {"api_key": WITHHELD, "port": 5432}
    assert recorded["list"] == [WITHHELD, "y"]
    assert (recorded["use_tokens"], recorded["domain"]) == (True, "lab.test")
    assert "template_password" not in recorded
    assert "temp_vmid" not in recorded  # has no value
