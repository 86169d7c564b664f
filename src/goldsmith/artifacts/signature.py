"""Signatures of versions, made with an operator's SSH key: what `ssh-keygen -Y` makes and checks, and git uses, too.

Signed is a statement: the version's name, the digest of its manifest (which holds those of its layers) and of whatever
belonged to it then, as its record and its bill of materials. Who may sign stands in an allowed signers file
(ssh-keygen(1)); a line there can be limited to us by `namespaces="goldsmith"`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from goldsmith.artifacts.manifest import MANIFEST_TYPE, Descriptor, parse_json
from goldsmith.artifacts.record import parse_time, render_time
from goldsmith.artifacts.repository import Attached, Repository, Version
from goldsmith.artifacts.store import CREATED
from goldsmith.base.digest import Digest, render_canonical_json
from goldsmith.base.errors import ProgramError, RepositoryDamaged, RepositoryError
from goldsmith.base.process import Completed, run

MEDIA_TYPE = "application/vnd.goldsmith.signature.v1"
STATEMENT_TYPE = "application/vnd.goldsmith.signature.statement.v1+json"
SSH_TYPE = "application/vnd.goldsmith.signature.v1+ssh"
NAMESPACE = "goldsmith"
"""What a signature is for; one that the same key has made for git or a file is none of a version."""
_KEY = re.compile(r"with (?P<type>\S+) key (?P<fingerprint>SHA256:\S+)")


class NotSigned(RepositoryError):
    """A version has no signature by anybody who may sign."""


@dataclass(frozen=True)
class Statement:
    """What was signed. `at` is UTC; `attached` are digests of the manifests that belonged to the version."""

    version: str
    digest: Digest
    at: datetime
    attached: frozenset[Digest]


@dataclass(frozen=True)
class Signature:
    """A signature that has been checked: by whom, with which key, of what."""

    signer: str
    """As the allowed signers file calls him."""
    fingerprint: str
    statement: Statement


def render_statement(statement: Statement) -> bytes:
    """Render what is signed."""
    return render_canonical_json(
        {
            "version": statement.version,
            "digest": statement.digest,
            "at": render_time(statement.at),
            "attached": sorted(statement.attached),
        }
    )


def parse_statement(data: bytes) -> Statement:
    """Parse what was signed.

    :raises RepositoryDamaged: it is no statement.
    """
    value = parse_json(data, "a signed statement")
    attached = value.get("attached")
    digests = [Digest(str(item)) for item in attached] if isinstance(attached, list) else []
    return Statement(
        str(value.get("version", "")), Digest(str(value.get("digest", ""))), parse_time(str(value.get("at", ""))),
        frozenset(digests),
    )  # fmt: skip


def sign_version(repository: Repository, version: Version, key: Path, *, at: datetime | None = None) -> Statement:
    """Sign a version and what belongs to it now, and store the signature beside it.

    :param key: a private key, or a public one whose private half is held by the SSH agent.
    :raises RepositoryError: the key cannot be used.
    :raises VersionNotFound: the version has gone.
    """
    image = Descriptor(MANIFEST_TYPE, version.digest, 0, home=version.name)
    others = repository.store.list_referrers(image)
    attached = frozenset(entry.digest for entry in others if entry.artifact_type != MEDIA_TYPE)
    statement = Statement(version.reference, version.digest, at or datetime.now(UTC), attached)
    text = render_statement(statement)
    parts = {STATEMENT_TYPE: text, SSH_TYPE: _sign(text, key)}
    repository.attach(version, MEDIA_TYPE, parts, {CREATED: render_time(statement.at)})
    return statement


def _sign(text: bytes, key: Path) -> bytes:
    try:
        signed = run(["ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE], input=text, timeout=60)
    except ProgramError as error:
        hint = "a key with a passphrase is used through the SSH agent: ssh-add it, and name the public key"
        raise RepositoryError(f"{key} cannot sign", hint=hint, detail=error.detail) from error
    return signed.stdout.encode()


def list_signatures(repository: Repository, version: Version) -> list[Attached]:
    """Return what claims to be a signature of a version; the newest comes last."""
    return repository.list_attached(version, MEDIA_TYPE)


def verify_signature(repository: Repository, version: Version, signature: Attached, allowed: Path) -> Signature:
    """Check one signature of a version.

    :param allowed: the allowed signers file.
    :raises NotSigned: it is none of this version, or of nobody who may sign; the message says which.
    :raises RepositoryError: there is no such file.
    """
    if not allowed.is_file():
        raise RepositoryError(f"there is no allowed signers file {allowed}", hint="ssh-keygen(1), ALLOWED SIGNERS")
    text = repository.store.read_blob(signature.get_part(STATEMENT_TYPE))
    statement = parse_statement(text)
    if (statement.version, statement.digest) != (version.reference, version.digest):
        raise NotSigned(f"a signature of {statement.version} lies beside {version}; it is none of it")
    with tempfile.TemporaryDirectory(prefix="goldsmith-") as folder:
        path = Path(folder, "signature")
        path.write_bytes(repository.store.read_blob(signature.get_part(SSH_TYPE)))
        signer = _find_signer(version, path, text, allowed)
        checked = _ask("verify", path, text, "-f", allowed, "-I", signer)
    found = _KEY.search(checked.stdout)
    if checked.returncode != 0 or found is None:
        raise NotSigned(f"the signature of {version} by {signer} is not valid", detail=checked.stdout + checked.stderr)
    return Signature(signer, found["fingerprint"], statement)


def _find_signer(version: Version, path: Path, text: bytes, allowed: Path) -> str:
    """Return who has signed, by the key."""
    found = run(["ssh-keygen", "-Y", "find-principals", "-s", path, "-f", allowed], check=False, timeout=60)
    if found.returncode == 0 and found.stdout.strip():
        return found.stdout.splitlines()[0].strip()
    told = _ask("check-novalidate", path, text)
    key = _KEY.search(told.stdout)
    who = f"with the {key['type']} key {key['fingerprint']}" if key else "but not validly"
    raise NotSigned(f"{version} is signed {who}, which {allowed} does not allow", hint="add the signer, if he may sign")


def _ask(task: str, path: Path, text: bytes, *options: str | Path) -> Completed:
    argv = ["ssh-keygen", "-Y", task, "-n", NAMESPACE, "-s", path, *options]
    return run(argv, input=text, check=False, timeout=60)


def check_signed(repository: Repository, version: Version, allowed: Path) -> Signature:
    """Ask whether somebody who may sign has signed a version.

    :param allowed: the allowed signers file.
    :raises NotSigned: nobody has; the message tells why the newest signature does not count.
    """
    refused: Sequence[NotSigned | RepositoryDamaged] = []
    for signature in reversed(list_signatures(repository, version)):
        try:
            return verify_signature(repository, version, signature, allowed)
        except (NotSigned, RepositoryDamaged) as error:
            refused = [*refused, error]
    if refused:
        raise NotSigned(refused[0].message, hint=refused[0].hint, detail=refused[0].detail) from refused[0]
    raise NotSigned(f"{version} is not signed", hint="a person who may sign has to sign it first")
