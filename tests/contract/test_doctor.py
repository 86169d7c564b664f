"""`goldsmith doctor` before a Proxmox from which one thing at a time has been taken. fakepve is the Proxmox."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakepve import FakePve

from goldsmith.base.findings import Finding
from goldsmith.base.secrets import Secret
from goldsmith.build.doctor.examine import Examination, examine
from goldsmith.build.doctor.needs import list_needs
from goldsmith.build.facts import Site
from goldsmith.definition.image import Image
from goldsmith.definition.load import Surroundings, load_image
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.shell import LocalShell

from .conftest import TEMPLATE, connect_fake
from .test_first_contact import SECRET, run_goldsmith

USER = "builder@pve"
VARIABLES = """
proxmox_api_host: pve.example.com
proxmox_api_token_id: ci
proxmox_api_token_secret: x
temp_ip_address: 192.0.2.9/24
temp_gateway: 192.0.2.1
temp_disk_size: "local-lvm:8"
"""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    folder = tmp_path / "images/lxc"
    folder.mkdir(parents=True)
    (folder / "vars.yml").write_text(VARIABLES)
    (folder / "playbook.yml").write_text("- hosts: all\n  tasks: []\n")
    return load_image(folder, Surroundings({}, tmp_path))


@pytest.fixture
def pve(fakepve: FakePve, fakepve_cafile: str) -> Iterator[Pve]:
    """The API as a user who has no privileges yet."""
    fakepve.store_file("local", TEMPLATE, 1000, "vztmpl")
    fakepve.users[USER] = "pw"
    with open_pve(connect_fake(fakepve, Path(fakepve_cafile), user=USER, password=Secret("pw"))) as pve:
        yield pve


def make_site(pve: Pve) -> Site:
    return Site(pve=pve, node=pve.node("pve1"), shell=LocalShell(), kind="proxmox", version=str(pve.version()))


def grant_all(fakepve: FakePve, image: Image, pve: Pve, but: tuple[str, str] = ("", "")) -> list[tuple[str, str]]:
    """Grant what is needed but for one privilege; return all pairs of path and privilege."""
    fakepve.acl = None
    needs = list_needs(Examination(image, make_site(pve)).work, pve.version())
    pairs = [(need.path, privilege) for need in needs for privilege in need.privileges]
    fakepve.acl = {}
    for path, privilege in pairs:
        if (path, privilege) != but and path != "/":  # on / it would hold everywhere
            fakepve.grant(USER, path.replace("/vms/900", "/vms"), privilege)
    return [pair for pair in pairs if pair[0] != "/"]


def select(findings: list[Finding], subject: str, level: str) -> list[str]:
    return [
        f"{finding.message} {finding.hint}"
        for finding in findings
        if (finding.subject, finding.level) == (subject, level)
    ]


def test_each_privilege_that_is_missing_is_named_with_its_place(fakepve: FakePve, image: Image, pve: Pve) -> None:
    pairs = grant_all(fakepve, image, pve)
    assert len(pairs) > 15
    for path, privilege in pairs:
        grant_all(fakepve, image, pve, but=(path, privilege))
        findings = examine(image, make_site(pve))
        vital = "warning" if path.startswith("/nodes") else "error"
        lacking = select(findings, "privileges", vital)
        if vital == "error" and not lacking:
            # without seeing a storage at all, that is what is missing
            assert privilege in ("Datastore.Audit", "Datastore.AllocateSpace"), (path, privilege)
            assert [finding for finding in findings if finding.level == "error"]
            continue
        assert any(said.startswith(f"{privilege} missing on {path} ") for said in lacking), (path, privilege, lacking)
        commands = next(said for said in select(findings, "privileges", "ok") if "pveum" in said)
        assert f"--users {USER}" in commands


def test_with_everything_granted_nothing_is_missing(fakepve: FakePve, image: Image, pve: Pve) -> None:
    grant_all(fakepve, image, pve)
    fakepve.grant(USER, "/sdn", "SDN.Audit")
    findings = examine(image, make_site(pve))
    assert [finding for finding in findings if finding.level == "error"] == []
    assert {finding.subject for finding in findings} >= {
        "Proxmox VE", "clock", "privileges", "storage local", "storage local-lvm", "network", "vmid", "address",
        "base image", "shell",
    }  # fmt: skip
    assert all(request[0] in ("GET", "POST") for request in fakepve.requests)
    assert {request[1] for request in fakepve.requests if request[0] == "POST"} == {"/api2/json/access/ticket"}


Break = Callable[[FakePve], None]


def fill_storage(fake: FakePve) -> None:
    fake.storages["local"]["avail"] = 1 << 30


def drop_storage(fake: FakePve) -> None:
    del fake.storages["local-lvm"]


def be_old(fake: FakePve) -> None:
    fake.version, fake.release_version = "6.4.15", "6.4"


@pytest.mark.parametrize(
    ("break_it", "subject", "level", "said"),
    [
        (fill_storage, "storage local", "warning", "only "),
        (drop_storage, "storage local-lvm", "error", "it is not there, or we may not see it"),
        (be_old, "Proxmox VE", "warning", "goldsmith knows versions 7.4 to 9"),
    ],
)
def test_what_is_wrong_is_found(
    fakepve: FakePve, image: Image, pve: Pve, break_it: Break, subject: str, level: str, said: str
) -> None:
    break_it(fakepve)
    assert said in "".join(select(examine(image, make_site(pve)), subject, level))


def test_a_bridge_that_is_not_there(fakepve: FakePve, image: Image, pve: Pve) -> None:
    site = make_site(pve)
    findings = examine(image, Site(**{**vars(site), "bridge": "vmbr77"}))
    assert select(findings, "network", "error") == ["there is no bridge vmbr77 there is: vmbr0"]


@pytest.fixture
def project(image: Image, fakepve: FakePve, fakepve_cafile: str) -> Path:
    fakepve.apitokens["root@pam!ci"] = SECRET
    fakepve.store_file("local", TEMPLATE, 1000, "vztmpl")
    text = VARIABLES.replace("pve.example.com", f"'{fakepve.host}:{fakepve.port}'").replace(": x", f": {SECRET}")
    (image.directory / "vars.yml").write_text(f"{text}proxmox_ca_file: {fakepve_cafile}\nproxmox_shell_user: nobody\n")
    return image.project


def test_the_command_shows_one_page_and_its_code_tells(project: Path) -> None:
    """All is well but the shell: nobody answers ssh there, or lets us in."""
    done = run_goldsmith(project, "doctor")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert lines[0] == "lxc:"
    assert [line[:16] for line in lines if line.startswith("ERROR")] == ["ERROR    shell: "]
    assert "ok       base image: local has debian-12-standard_12.7-1_amd64.tar.zst" in lines
    assert "something that is needed is missing" in done.stderr
    told = json.loads(run_goldsmith(project, "--json", "doctor", "lxc").stdout)
    assert told["ready"] is False
    assert {"subject": "network", "level": "ok", "message": "bridge vmbr0", "hint": ""} in told["images"][0]["findings"]
    assert SECRET not in done.stdout + done.stderr


def test_a_node_that_cannot_be_reached_is_a_finding(project: Path, fakepve: FakePve) -> None:
    fakepve.apitokens["root@pam!ci"] = "another"
    done = run_goldsmith(project, "doctor")
    assert done.returncode == 1
    assert "ERROR    connection: " in done.stdout
    assert "refuses root@pam!ci" in done.stdout
    assert "check user and password, or the token's id and secret" in done.stdout
