"""What the playbook of an image is given: the known variables with their effective values, then the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goldsmith.base.digest import JsonValue
from goldsmith.base.secrets import Secret
from goldsmith.build.credentials import Credentials
from goldsmith.definition.image import Image
from goldsmith.definition.variables import KNOWN, SECRETS
from goldsmith.provision.play import Play
from goldsmith.provision.stages import Stage, list_stages

TELLING = re.compile(r"pass(word|wd|phrase)?|secret|token|credential|private|api_?key", re.IGNORECASE)
"""Names whose values are not recorded, whatever they hold: an artifact may travel further than its definition."""
OWN = ("layers", "share_downloads", "guest_connection")
"""Variables that say how a playbook is run, and are nothing to it."""
WITHHELD = "(withheld)"


def make_play(image: Image, credentials: Credentials | None = None) -> Play:
    """Return an image's playbook with its variables; without credentials it is good for a syntax check only.

    Passwords reach the playbook as a hash alone (`template_password_hash`); the authorized key is `template_ssh_key`.
    """
    given: dict[str, Any] = {**list_known(image), **image.extra}
    if credentials is not None:
        given |= {"template_password_hash": credentials.password_hash, "template_ssh_key": credentials.ssh_key}
    return Play(image.playbook, image.project, given, image.variables.ansible_strategy)


def read_stages(image: Image, credentials: Credentials | None = None) -> tuple[Stage, ...]:
    """Return the stages of an image's provisioning, each with its variables; see `make_play`."""
    return list_stages(make_play(image, credentials), image.variables.layers, image.variables.refresh_after)


def list_plays(image: Image) -> list[Play]:
    """Return what Ansible is to check before a build: the playbook as it is written, or that of each layer."""
    play = make_play(image)
    return [stage.play for stage in list_stages(play, image.variables.layers)] if image.variables.layers else [play]


def list_known(image: Image) -> dict[str, JsonValue]:
    """Return the known variables but the secrets, as plain values; what has no value is None."""
    values = {name: getattr(image.variables, name) for name in KNOWN if name not in {*SECRETS, *OWN}}
    return {**{name: _to_plain(value) for name, value in values.items()}, "template_name": image.name}


def _to_plain(value: Any) -> JsonValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else str(value)


def list_recorded(image: Image) -> dict[str, JsonValue]:
    """Return the variables for the build record: no secret, and nothing whose name tells that it is one."""
    extra = {name: _withhold(name, value) for name, value in image.extra.items()}
    return {**{name: value for name, value in list_known(image).items() if value is not None}, **extra}


def _withhold(name: str, value: Any) -> JsonValue:
    if isinstance(value, Secret) or (TELLING.search(name) and not isinstance(value, bool)):
        return WITHHELD
    if isinstance(value, Mapping):
        return {str(key): _withhold(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_withhold(name, item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
