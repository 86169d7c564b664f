"""The key of each layer: everything that can change it, by name, so that a miss can say what has changed."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.digest import Digest, JsonValue, digest_bytes, digest_json, render_canonical_json
from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.base.files import describe_entry, write_atomic
from goldsmith.base.secrets import Secret
from goldsmith.build.play import TELLING
from goldsmith.build.scripts import read_script
from goldsmith.definition.image import Image
from goldsmith.definition.source import UnsafeText, VaultText, parse_document
from goldsmith.provision.inputs import Inputs, find_inputs
from goldsmith.provision.play import Play
from goldsmith.provision.stages import Stage
from goldsmith.provision.tools import find_version, read_tool_versions

REVISION = 2
"""Of how layers are made; one more when that changes what is in them."""
RECORDED = "layers"
"""Where a build record has the keys (`BuildRecord.extra`)."""
LIBRARIES = ("jinja2", "pyyaml", "netaddr", "jmespath", "passlib", "libpass")
"""What Ansible's templates and filters compute with on this machine."""
AMBIGUOUS = re.compile(
    r"(?m)\d{4}-\d\d?-\d\d?|(?:^|[{,])[\s-]*['\"]?([\d.+:_-]+|true|false|yes|no|on|off|null|~)['\"]?\s*:", re.IGNORECASE
)
"""Dates, and keys that are no text: the reader gives them as text, so that quoting them would seem to be no change."""
BASE, BEFORE = "the base image", "the layer before"
SEALING = "goldsmith's sealing"
"""Comes after the last layer, and makes the version different when it changes."""


@dataclass(frozen=True)
class LayerKey:
    """A layer's key, and what it is made of."""

    name: str
    key: Digest
    inputs: Mapping[str, str]
    """A short text for each input, by what a person calls it: `file images/lxc/motd.j2`, `variable apps`."""
    outside: str = ""
    """Why its result must not be used again; empty where it may be."""
    installs_packages: bool = False
    refresh_after: int | None = None
    """Seconds."""
    since: int | None = None
    """When it was built, in seconds since 1970, of a version's layers where that is recorded."""


def make_keys(stages: Sequence[Stage], base: Digest, secret: bytes) -> tuple[LayerKey, ...]:
    """Return the keys of an image's layers.

    :param base: digest of the base image.
    :param secret: what digests of secrets are made with, so that nobody can guess those from a record.
    """
    keys: list[LayerKey] = []
    for number, stage in enumerate(stages, start=1):
        before = {BASE: str(base)} if not keys else {BEFORE: str(keys[-1].key)}
        last = {SEALING: str(digest_bytes(read_script("seal.sh").encode()))} if number == len(stages) else {}
        keys.append(_make_key(stage, {**before, **last}, secret))
    return tuple(keys)


def _make_key(stage: Stage, around: Mapping[str, str], secret: bytes) -> LayerKey:
    found = find_inputs(stage.play)
    inputs = {**around, **_describe_tools(stage.play), **_describe_inputs(stage.play, found, secret)}
    key = digest_json({"revision": REVISION, "inputs": sorted(inputs.items())})
    return LayerKey(stage.name, key, inputs, found.outside, stage.installs_packages, stage.refresh_after)


def _describe_tools(play: Play) -> dict[str, str]:
    tools = {f"tool {name}": version for name, version in read_tool_versions().items() if name != "ansible-runner"}
    libraries = {f"tool {name}": version for name in LIBRARIES if (version := find_version(name))}
    ours = digest_bytes(read_script("prepare.sh").encode())
    return {**tools, **libraries, "strategy": play.strategy, "goldsmith's preparation of guests": str(ours)}


def _describe_inputs(play: Play, found: Inputs, secret: bytes) -> dict[str, str]:
    files = {f"file {_to_text(name)}": _describe_file(path, secret) for name, path in found.files.items()}
    variables = {f"variable {name}": _describe_value(name, value, secret) for name, value in found.variables.items()}
    collections = {f"collection {name}": str(digest) for name, digest in found.collections.items()}
    other = {"requirements.yml": str(digest_json(found.requirements))} if found.requirements else {}
    return {"its playbook": str(_digest_text(play)), **files, **variables, **collections, **other}


def _describe_file(path: Path, secret: bytes) -> str:
    try:
        entry = describe_entry(path)
    except OSError as error:
        raise DefinitionError([Problem(path, 0, f"cannot be read: {error.strerror}")]) from error
    data = json.dumps(entry).encode()  # escapes what is no UTF-8 in the target of a link
    return _digest_secret(data, secret) if TELLING.search(path.name) else str(digest_bytes(data))


def _to_text(name: str) -> str:
    """Return a file's name as text, whatever bytes it has; different names give different texts."""
    return os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def _digest_secret(data: bytes, secret: bytes) -> str:
    return "hmac-sha256:" + hmac.new(secret, data, hashlib.sha256).hexdigest()


def _digest_text(play: Play) -> Digest:
    """Digest what a playbook says; comments and the place of lines are nothing that it says."""
    text = play.read_text()
    if AMBIGUOUS.search(text):
        return digest_bytes(text.encode())
    try:
        return digest_json(_to_plain(parse_document(text, play.playbook).value))
    except (DefinitionError, ValueError, TypeError):
        return digest_bytes(text.encode())


def _describe_value(name: str, value: Any, secret: bytes) -> str:
    data = render_canonical_json(_to_plain(value))
    return _digest_secret(data, secret) if _is_telling(name, value) else str(digest_bytes(data))


def _is_telling(name: str, value: Any) -> bool:
    """Tell whether a value is secret, or a name in it tells that it may be."""
    if isinstance(value, Mapping):
        return TELLING.search(name) is not None or any(_is_telling(str(key), item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_is_telling(name, item) for item in value)
    return isinstance(value, Secret) or TELLING.search(name) is not None


def _to_plain(value: Any) -> JsonValue:
    """Return a value as JSON in which values of different kinds never meet."""
    match value:
        case Secret():
            return {"secret": value.reveal()}
        case UnsafeText():
            return {"unsafe": value.text}
        case VaultText():
            return {"vault": value.text}
        case Mapping():
            return [[_to_plain(key), _to_plain(item)] for key, item in value.items()]
        case set() | frozenset():
            return {"list": [_to_plain(item) for item in sorted(value, key=repr)]}
        case list() | tuple():
            return {"list": [_to_plain(item) for item in value]}
        case None | bool() | int() | float() | str():
            return value
    return {type(value).__name__: str(value)}


def ensure_secret(image: Image) -> bytes:
    """Return the project's own secret for digests of secrets; it is made once and kept in `.goldsmith/`."""
    file = image.private / "digest-key"
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(file, secrets.token_hex(32) + "\n", mode=0o600)
    return bytes.fromhex(file.read_text(encoding="ascii").strip())


def describe_keys(keys: Sequence[LayerKey], since: Sequence[int]) -> JsonValue:
    """Return keys as they are recorded with a version.

    :param since: when each of the layers was built, in seconds since 1970.
    """
    return [
        {"name": key.name, "key": key.key, "inputs": dict(key.inputs), "since": built}
        for key, built in zip(keys, since, strict=True)
    ]


def parse_keys(value: Any) -> tuple[LayerKey, ...]:
    """Parse what `describe_keys` has rendered; nothing where there is nothing, or a later goldsmith has written it."""
    try:
        return tuple(
            LayerKey(str(one["name"]), Digest(one["key"]), dict(one["inputs"]), since=_parse_since(one))
            for one in value
        )
    except (TypeError, KeyError, ValueError):
        return ()


def _parse_since(value: Mapping[str, Any]) -> int | None:
    return int(value["since"]) if "since" in value else None


def compare_inputs(now: LayerKey, before: LayerKey | None) -> list[str]:
    """Return what has changed since a layer was built, as a person calls it; empty where nothing has."""
    if before is None:
        return ["it was never built"]
    changed = [name for name, text in now.inputs.items() if before.inputs.get(name) != text]
    gone = [name for name in before.inputs if name not in now.inputs]
    return [*(_word(name, before, now) for name in changed), *(f"{name} is gone" for name in gone)]


def find_changes(before: Sequence[LayerKey], now: Sequence[LayerKey]) -> list[str]:
    """Return what has changed between two looks at the same layers: what is made of both belongs to neither's keys."""
    if [key.name for key in before] != [key.name for key in now]:
        return ["other layers are wanted"]
    told = [text for one, other in zip(now, before, strict=True) for text in compare_inputs(one, other)]
    return [text for text in dict.fromkeys(told) if not text.startswith(BEFORE)]


def _word(name: str, before: LayerKey, now: LayerKey) -> str:
    if name not in before.inputs:
        return f"{name} is new"
    if name.startswith("tool "):
        return f"{name}: {before.inputs[name]} became {now.inputs[name]}"
    return f"{name} has changed"
