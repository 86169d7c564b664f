"""Where this machine gets its Debian packages from: its own apt configuration, read for making templates.

A machine behind a proxy or with a mirror in the house has that configured for apt already; nobody should have to say
it twice. Suites are replaced by those of the wanted release; security and updates are always among them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.process import run
from goldsmith.node.faults import ApiFault

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TARGETS = "$(REPO_URI)|$(RELEASE)"
_SUITES = ("bookworm", "trixie", "forky", "stable", "oldstable", "testing", "unstable", "sid")
_OPTION = re.compile(r'(Acquire::(?:https?|Retries|Check-Valid-Until|Check-Date|ForceIPv4)[\w:.\-]*) "(.+)";')
_CREDENTIALS = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True)
class Mirror:
    """Addresses of Debian's archives, and apt options needed to reach them.

    `options` may hold a proxy's password: they go into files only, and what is kept in a template has none.
    """

    main: str = ""
    security: str = ""
    options: tuple[str, ...] = ()

    def render_sources(self, suite: str) -> list[str]:
        """Return the lines of sources.list(5) for a release."""
        signed = f"[signed-by={KEYRING}]"
        return [
            f"deb {signed} {self.main} {suite} main",
            f"deb {signed} {self.main} {suite}-updates main",
            *([f"deb {signed} {self.security} {suite}-security main"] if self.security else []),
        ]

    def kept_options(self) -> list[str]:
        """Return the options that guests need too, without those that hold a password."""
        return [option for option in self.options if not _CREDENTIALS.search(option)]


def parse_mirror(targets: str, config: str) -> Mirror:
    """Return the mirror that apt's own answers describe.

    :param targets: lines `URI|suite` of `apt-get indextargets`.
    :param config: what `apt-config dump` says.
    """
    main, security = "", ""
    sources = [(resolve_list(uri), suite) for uri, _, suite in (line.partition("|") for line in targets.splitlines())]
    with_updates = {uri for uri, suite in sources if suite.endswith("-updates")}
    # Stable: a source that carries updates too is Debian itself, others may share a suite's name.
    for uri, suite in sorted(sources, key=lambda source: source[0] not in with_updates):
        if not uri.startswith(("http://", "https://")) or _CREDENTIALS.search(uri):
            continue
        if suite.endswith("-security"):
            security = security or uri.rstrip("/")
        elif suite in _SUITES:
            main = main or uri.rstrip("/")
    options = [f'{match[1]} "{match[2]}";' for match in map(_OPTION.fullmatch, config.splitlines()) if match]
    return Mirror(main, security, tuple(options))


def resolve_list(uri: str) -> str:
    """Return the first address of a list of mirrors (`mirror+file:`, apt-transport-mirror(1), as in cloud images)."""
    if not uri.startswith("mirror+file:"):
        return uri
    try:
        lines = Path(uri.removeprefix("mirror+file:").rstrip("/")).read_text().splitlines()
    except OSError:
        return uri
    return next((words[0] for words in map(str.split, lines) if words and words[0].startswith("http")), uri)


def find_mirror() -> Mirror:
    """Return the mirror of this machine's apt.

    :raises ApiFault: it names none.
    """
    targets = run(["apt-get", "indextargets", "--format", _TARGETS, "Created-By: Packages"], check=False).stdout
    mirror = parse_mirror(targets, run(["apt-config", "dump"], check=False).stdout)
    if not mirror.main:
        raise ApiFault("apt on this machine names no Debian mirror: add one to its sources, run apt-get update")
    return mirror
