"""How a server's guests are told apart: tags for lists, a line in the description for certainty.

    tags          goldsmith, and goldsmith-server (runs), goldsmith-next (is being made), goldsmith-previous (was
                  replaced, and is kept), goldsmith-holder (holds data while a server is made anew)
                  IMAGE-TAG       the version, e.g. debian-12-docker-20261123.1
                  conf-, made-    digests of what the inventory says: a plan compares them without a call per guest
    description   a sentence for people; below it `goldsmith server NAME`, and while a replacement is under way
                  `goldsmith replacement {...}`: all that anybody needs to finish or undo it

A tag can be set by anybody. So whatever changes or destroys a guest reads its description first.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from goldsmith.base.digest import JsonValue

OURS = "goldsmith"
SERVER_LINE, RECORD_LINE, RETIRED_LINE = "goldsmith server ", "goldsmith replacement ", "goldsmith retired "
REPLACING = "goldsmith-replacing"
"""The tag of a guest that is being replaced, besides its role."""
VERSION = re.compile(r"(?P<image>.+)-(?P<tag>\d{8}\.[1-9]\d*)\Z")
CONF, MADE = "conf-", "made-"


class Role(StrEnum):
    """What a guest is to its server; the value is its tag."""

    CURRENT = "goldsmith-server"
    NEXT = "goldsmith-next"
    PREVIOUS = "goldsmith-previous"
    HOLDER = "goldsmith-holder"


@dataclass(frozen=True)
class Labels:
    """What a guest's tags say."""

    role: Role | None = None
    image: str = ""
    tag: str = ""
    """Of the version."""
    conf: str = ""
    made: str = ""
    replacing: bool = False
    """Whether a replacement of it is under way, or was interrupted."""

    @property
    def version(self) -> str:
        """`NAME:TAG`; empty where no tag says it."""
        return f"{self.image}:{self.tag}" if self.tag else ""


def parse_labels(tags: tuple[str, ...]) -> Labels:
    """Parse a guest's tags. Without our first one it is nobody's."""
    if OURS not in tags:
        return Labels()
    role = next((role for role in Role if role.value in tags), None)
    version = next((found for tag in tags if (found := VERSION.match(tag))), None)
    conf = next((tag.removeprefix(CONF) for tag in tags if tag.startswith(CONF)), "")
    made = next((tag.removeprefix(MADE) for tag in tags if tag.startswith(MADE)), "")
    image, tag = (version["image"], version["tag"]) if version else ("", "")
    return Labels(role, image, tag, conf, made, REPLACING in tags)


def render_labels(labels: Labels, own: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the tags of a guest; `own` are those of the inventory."""
    version = [f"{labels.image}-{labels.tag}"] if labels.tag else []
    digests = [f"{CONF}{labels.conf}"] * bool(labels.conf) + [f"{MADE}{labels.made}"] * bool(labels.made)
    role = ([labels.role.value] if labels.role else []) + [REPLACING] * labels.replacing
    return tuple(sorted({OURS, *role, *version, *digests, *own}))


def relabel(tags: tuple[str, ...], role: Role, *, replacing: bool) -> tuple[str, ...]:
    """Return a guest's tags with another role; what else they say stays, and so do those that are not ours."""
    own = tuple(tag for tag in tags if not tag.startswith(OURS))
    return render_labels(replace(parse_labels(tags), role=role, replacing=replacing), own)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A replacement under way: enough to finish or undo it from any machine."""

    run: str
    server: str
    strategy: str
    """`create`, `swap`, `recreate`, `rollback`, `restore` or `restore-data` (`fleet.goals`)."""
    node: str
    image: str
    tag: str
    old: int = 0
    """Vmid of the guest that is replaced; 0: there is none."""
    new: int = 0
    holder: int = 0
    template: str = ""
    """Volume id of the version's template."""
    making: str = ""
    """The task (UPID) by which the guest was made that was made last: it knows a guest that it did not finish."""
    backup: str = ""
    """Volume id of the backup that was made and read back; empty: not yet."""
    was: str = ""
    """The version before."""
    data: tuple[tuple[str, str], ...] = ()
    """The data that goes along: path and volume id, as they were when it began. All of it must be there in the end."""
    cluster: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the old guest is besides: `ha`, `rules`, `replication`, `jobs`, `firewall` (`actions.membership`)."""
    destroying: bool = False
    """Whether the old guest is being destroyed: what there may be left of it is not whole."""
    back: bool = False
    """Whether it is being undone."""
    by: str = ""
    """Who is at it: user@machine, and since when."""

    @property
    def version(self) -> str:
        """`NAME:TAG` of the new version."""
        return f"{self.image}:{self.tag}"

    def as_json(self) -> dict[str, JsonValue]:
        """Return the record as a JSON object, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}


def parse_record(text: str) -> Record | None:
    """Find the record in a description or in notes."""
    for line in text.splitlines():
        if line.startswith(RECORD_LINE):
            try:
                values: dict[str, Any] = json.loads(line.removeprefix(RECORD_LINE))
                known = {one.name for one in fields(Record)}
                values["data"] = tuple((path, volid) for path, volid in values.get("data", []))
                return Record(**{name: value for name, value in values.items() if name in known})
            except (ValueError, TypeError):
                return None
    return None


def find_server(text: str) -> str:
    """Return whose guest a description says it is; empty where it says nothing."""
    lines = (line.removeprefix(SERVER_LINE) for line in text.splitlines() if line.startswith(SERVER_LINE))
    return next(lines, "")


def find_version(text: str) -> str:
    """Return the version that a description names, `NAME:TAG`; empty where it names none."""
    found = re.search(r"\*([^*\s]+:\d{8}\.\d+)\*", text)
    return found[1] if found else ""


def find_retired(text: str) -> int | None:
    """Return when a guest was replaced, in seconds since 1970; None where its description does not say."""
    lines = (line.removeprefix(RETIRED_LINE) for line in text.splitlines() if line.startswith(RETIRED_LINE))
    found = next(lines, "")
    return int(found) if found.isdecimal() else None


SENTENCES = {
    Role.CURRENT: "**{server}** runs from *{version}*. It is replaced as a whole, never changed by hand.",
    Role.NEXT: "This becomes **{server}**, from *{version}*, as soon as it has been looked at.",
    Role.PREVIOUS: "**{server}** ran from *{version}* here until {date}. Kept for a rollback: `goldsmith rollback`.",
    Role.HOLDER: "Holds the data of **{server}** while that is made anew.",
}


ABOUT = ("digest", "built", "tests")
"""What a description says of the version, a line each."""


def find_about(text: str) -> str:
    """Return what a description says of the version, as it stands."""
    return "\n".join(line for line in text.splitlines() if line.startswith(tuple(f"- {name}: " for name in ABOUT)))


def describe(
    server: str, version: str, role: Role, record: Record | None = None, *, made: datetime | None = None,
    about: str = "",
) -> str:  # fmt: skip
    """Return the description of a server's guest (Markdown, as Proxmox's pages show it).

    :param about: what there is to say of the version (`ABOUT`), a list.
    """
    date = f"{made or datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    told = SENTENCES[role].format(server=server, version=version, date=date)
    lines = [told, "", *([about, ""] if about else []), f"{SERVER_LINE}{server}"]
    if role is Role.PREVIOUS:
        lines.append(f"{RETIRED_LINE}{int(time.time())}")
    if record is not None:
        lines.append(RECORD_LINE + json.dumps(record.as_json(), sort_keys=True, separators=(",", ":")))
    return "\n".join(lines)
