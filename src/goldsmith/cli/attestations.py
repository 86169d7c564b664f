"""`goldsmith images sign`, `sbom`, `provenance`: what others may want to see of a version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from goldsmith.artifacts.provenance import find_provenance, render_provenance
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.signature import check_signed, sign_version
from goldsmith.base.errors import RepositoryError, UsageError
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.versions import Stored, get_stored, repository_option
from goldsmith.definition.keys import DEFAULT_KEYS

KEY_VARIABLE = "GOLDSMITH_SIGNING_KEY"


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar=KEY_VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="The SSH key: a private one, or a public one whose private half the SSH agent holds. By default your own.",
)
@repository_option
@pass_settings
def sign(settings: Settings, reference: str, key: Path | None, repository: str | None) -> None:
    """Sign a version with your SSH key.

    What belongs to the version now, as its record and its verdicts, is signed with it. A key with a passphrase, or on a
    token, is used through the SSH agent (ssh-add). Who may sign stands in the image's signers_file.
    """
    chosen = key or find_own_key(Path.home())
    with catch_signals():
        stored = get_stored(reference, settings, repository)
        statement = sign_version(stored.repository, stored.version, chosen)
        doubt = find_doubt(stored)
    if settings.json:
        version = stored.version
        say_document(
            {
                "version": str(version),
                "digest": version.digest,
                "key": str(chosen),
                "attached": sorted(statement.attached),
                "warning": doubt or None,
            }
        )
    else:
        tell(f"{stored.version} is signed with {chosen}")
        if doubt:
            tell(f"warning: the signature does not count yet: {doubt}")


def find_own_key(home: Path) -> Path:
    """Return the user's own private key.

    :raises UsageError: there is none.
    """
    for name in DEFAULT_KEYS:
        file = home / ".ssh" / name.removesuffix(".pub")
        if file.is_file():
            return file
    raise UsageError("you have no SSH key in ~/.ssh to sign with", hint="name one: --key FILE")


def find_doubt(stored: Stored) -> str:
    """Return why a signature that was just made counts for nothing; empty when it counts, or nobody says who may."""
    signers = stored.place.find_signers(stored.version.name)
    if signers is None:
        return ""
    try:
        check_signed(stored.repository, stored.version, signers)
    except RepositoryError as error:
        return error.message
    return ""


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@repository_option
@pass_settings
def sbom(settings: Settings, reference: str, repository: str | None) -> None:
    """Print a version's bill of materials (CycloneDX).

    It is stored with the version when that is built; for a version that has none it is made now, and not stored.
    """
    from goldsmith.artifacts.sbom import find_sbom, read_distribution, render_sbom  # cyclonedx takes a while to import

    def render(store: Repository, version: Version) -> bytes:
        return render_sbom(version, store.read_record(version), read_distribution(store, version))

    _print_document(lambda: get_stored(reference, settings, repository), find_sbom, render)


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@repository_option
@pass_settings
def provenance(settings: Settings, reference: str, repository: str | None) -> None:
    """Print how a version came to be (in-toto, with SLSA's provenance).

    It is stored with the version when that is built; for a version that has none it is made now, and not stored.
    """

    def render(store: Repository, version: Version) -> bytes:
        return render_provenance(version, store.read_record(version))

    _print_document(lambda: get_stored(reference, settings, repository), find_provenance, render)


def _print_document(
    get: Callable[[], Stored],
    find: Callable[[Repository, Version], bytes | None],
    render: Callable[[Repository, Version], bytes],
) -> None:
    """Print what is stored with a version, or made now where nothing is."""
    with catch_signals():
        stored = get()
        document = find(stored.repository, stored.version)
        if document is None:
            document = render(stored.repository, stored.version)
    say(document.decode().rstrip("\n"))
