"""Which nodes' certificates a person has accepted: a file of `host:port fingerprint` lines, as ssh keeps host keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from goldsmith.base.errors import CertificateError
from goldsmith.base.files import open_lock, write_atomic
from goldsmith.cli.asking import Asker
from goldsmith.pve.connection import Endpoint
from goldsmith.pve.tls import find_shown_fingerprint, is_trusted

KNOWN_NODES = "known_nodes"


class KnownNodes:
    """The accepted certificates of this person. Nothing is accepted that was not shown and agreed to."""

    def __init__(self, state: Path) -> None:
        self.file = state / KNOWN_NODES

    def find(self, endpoint: Endpoint) -> str | None:
        """Return the fingerprint that was accepted for a node."""
        return self._load().get(endpoint.address)

    def add(self, endpoint: Endpoint, fingerprint: str) -> None:
        """Remember a fingerprint that was accepted."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open_lock(self.file.with_suffix(".lock"), timeout=5.0, what=str(self.file)):
            known = {**self._load(), endpoint.address: fingerprint}
            lines = [f"{address} {pin}\n" for address, pin in sorted(known.items())]
            write_atomic(self.file, "".join(lines), mode=0o600)

    def _load(self) -> dict[str, str]:
        if not self.file.exists():
            return {}
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return {words[0]: words[1] for words in lines if len(words) == 2}


def pin_endpoint(endpoint: Endpoint, known: KnownNodes, asker: Asker) -> Endpoint:
    """Return where to connect, with the certificate to insist on where no authority vouches for it.

    At the first contact with such a node its fingerprint is shown and asked for, as ssh does. Where nobody can be
    asked, or a node does not answer, nothing is pinned: the first call then says what is wrong.

    :raises CertificateError: the person does not accept it, or a node shows another one than was accepted.
    """
    if endpoint.fingerprint is not None:
        return endpoint
    pinned, shown = known.find(endpoint), find_shown_fingerprint(endpoint)
    if shown is None or (pinned is None and is_trusted(endpoint)):
        return replace(endpoint, fingerprint=pinned)
    if pinned is None:
        pinned = _ask(endpoint, shown, known, asker)
    elif pinned != shown and not is_trusted(endpoint):
        raise _describe_change(endpoint, shown, known)
    return replace(endpoint, fingerprint=pinned if pinned == shown else None)


def _ask(endpoint: Endpoint, shown: str, known: KnownNodes, asker: Asker) -> str | None:
    question = (
        f"No authority vouches for the certificate of {endpoint.address}. Its SHA-256 fingerprint is\n  {shown}\n"
        "(on the node: `pvenode cert info`). Is that the one, and is it to be trusted from now on?"
    )
    answer = asker.confirm(question)
    if answer is None:
        return None
    if not answer:
        raise CertificateError(f"the certificate of {endpoint.address} was not accepted", hint="nothing was changed")
    known.add(endpoint, shown)
    return shown


def _describe_change(endpoint: Endpoint, shown: str, known: KnownNodes) -> CertificateError:
    return CertificateError(
        f"the certificate of {endpoint.address} is not the one that was accepted",
        detail=f"SHA-256 fingerprint it shows now: {shown}",
        hint=f"if the node was given a new one (compare with `pvenode cert info` there), remove its line from "
        f"{known.file}; if not, somebody else may be answering",
    )
