"""The example with PostgreSQL: replaced while a client writes. No write that was acknowledged is lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from pg8000.native import Connection

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import RolledBack
from goldsmith.fleet.backups import find_drill, list_backups
from goldsmith.verify.outcome import State
from tests.lxc.fleets import Lab, open_lab
from tests.lxc.guests import RunningNode
from tests.lxc.trials import Trials, list_failed
from tests.lxc.writing import Client, Writer, write_on

pytestmark = pytest.mark.root

EXAMPLE = Path(__file__).parents[2] / "examples" / "postgresql"
SERVER, CLIENT, PASSWORD = "db1", "client", "only in this test"
PREPARE = f"""runuser -u postgres -- psql --quiet <<'SQL'
CREATE ROLE {CLIENT} LOGIN PASSWORD '{PASSWORD}';
CREATE DATABASE {CLIENT} OWNER {CLIENT};
SQL"""
ASK = "runuser -u postgres -- psql --no-align --tuples-only --command"


@dataclass
class Database:
    """The server of the example's inventory, made from versions of the example's image."""

    lab: Lab

    def build(self, shared_buffers: str) -> Version:
        """Build the example's image with another setting."""
        workshop = self.lab.workshop
        shutil.copytree(EXAMPLE / "images" / "postgresql", workshop.directory, dirs_exist_ok=True)
        variables = yaml.safe_load((workshop.directory / "vars.yml").read_text())
        variables["postgresql_shared_buffers"] = shared_buffers
        (workshop.directory / "vars.yml").write_text(yaml.safe_dump(variables))
        return workshop.build().version

    def declare(self) -> None:
        """Take the example's inventory; only its address is that of a network of the tests."""
        variables = yaml.safe_load((EXAMPLE / "inventory" / "hosts.yml").read_text())["all"]["hosts"][SERVER]
        del variables["address"], variables["gateway"]
        self.lab.declare(SERVER, **variables)

    def connect(self) -> Connection:
        address = self.lab.server(SERVER).variables.fixed_address
        assert address is not None
        return Client(CLIENT, str(address.ip), CLIENT, PASSWORD)

    def prepare(self) -> None:
        """Make an account and a table for the client; no constraint hides a number that was written twice."""
        self.lab.run(SERVER, PREPARE)
        with closing(self.connect()) as connection:
            connection.run("CREATE TABLE written (number bigint)")

    def read(self) -> list[int]:
        with closing(self.connect()) as connection:
            return [int(row[0]) for row in connection.run("SELECT number FROM written")]

    def ask(self, query: str) -> str:
        return self.lab.run(SERVER, f'{ASK} "{query}"')

    @property
    def identity(self) -> str:
        """What tells a database cluster from any other, made when it was."""
        return self.ask("SELECT system_identifier FROM pg_control_system()")

    @property
    def certificate(self) -> str:
        """What PostgreSQL shows to clients that ask for TLS."""
        show = "openssl s_client -starttls postgres -connect localhost:5432 </dev/null 2>/dev/null"
        shown = self.lab.run(SERVER, f"{show} | openssl x509 -noout -fingerprint -subject")
        assert f"CN = {SERVER}" in shown
        return shown


@dataclass
class Versions:
    """The example as it is, with another setting, and with one that PostgreSQL does not start with."""

    bad: Version
    two: Version
    one: Version


@pytest.fixture(scope="module")
def database(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_lab(node, tmp_path_factory) as lab:
        database = Database(lab)
        database.declare()
        yield database


@pytest.fixture(scope="module")
def versions(database: Database) -> Versions:
    return Versions(*(database.build(buffers) for buffers in ("plenty", "64MB", "128MB")))


def test_the_image_passes_its_own_tests(database: Database, versions: Versions) -> None:
    (tested,) = Trials(database.lab.workshop).test(versions.one)
    assert list_failed(tested.verdict) == []
    assert tested.verdict.state is State.PASSED


def test_no_acknowledged_write_is_lost(database: Database, versions: Versions) -> None:
    lab = database.lab
    lab.deploy(SERVER, versions.one)
    database.prepare()
    identity = database.identity
    assert database.ask("SHOW shared_buffers") == "128MB"

    certificate = database.certificate

    with write_on(database.connect) as writer:
        with tell_pause(writer, "a good version"):
            replaced = lab.deploy(SERVER, versions.two)
        print(f"no answer at port 5432 for {replaced.outage:.2f} s")
        assert database.ask("SHOW shared_buffers") == "64MB"
        assert database.identity == identity, "the data was there before PostgreSQL was started"
        assert database.certificate == certificate

        with (
            tell_pause(writer, "a bad version, and back"),
            pytest.raises(RolledBack, match="db1 was not replaced, and is as it was before") as failed,
        ):
            lab.deploy(SERVER, versions.bad)
        assert "postgresql@15-main.service failed" in failed.value.message
        assert database.ask("SHOW shared_buffers") == "64MB"
        assert database.identity == identity
        assert lab.find_drift(SERVER).is_clean

        with tell_pause(writer, "a backup"):
            lab.back_up(SERVER)
        tried = lab.drill(SERVER)

    rows = database.read()
    writer.check_against(rows)
    with pytest.raises(AssertionError, match="acknowledged, and lost"):
        writer.check_against(rows[:-20])
    newest = list_backups(lab.server(SERVER), lab.site)[0]
    assert (tried.fault, tried.volid) == ("", newest.volid)
    assert find_drill([newest]).endswith(" passed")
    assert "PostgreSQL database cluster dump complete" in lab.run(SERVER, "tail -n 3 /var/lib/postgresql/all.sql")


@contextmanager
def tell_pause(writer: Writer, what: str) -> Iterator[None]:
    """See that commits are acknowledged before the block and after it, and tell the longest time without one."""
    writer.wait_for_more()
    begun = time.monotonic()
    yield
    seconds = time.monotonic() - begun
    writer.wait_for_more()
    print(
        f"{what}: {seconds:.1f} s, no commit for {writer.find_pause(begun):.2f} s; {len(writer.acknowledged)} commits"
    )


def test_no_empty_database_takes_the_place_of_one_of_another_postgresql(database: Database) -> None:
    said = database.lab.run(SERVER, "make-postgresql-cluster 16-main 2>&1; echo code $?; ls /var/lib/postgresql")
    assert "15/main/PG_VERSION is on the volume, and this is PostgreSQL 16" in said
    assert "code 1" in said
    assert "16" not in said.splitlines()[2:]
