"""The types of variables: each accepts what YAML or Jinja gives, and says in plain words why it refuses a value.

Numbers and truth values are accepted as text too: that is what Jinja makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from goldsmith.base.secrets import Secret
from goldsmith.definition.bases import parse_base, parse_checksum
from goldsmith.definition.values import (
    API_HOST,
    AUTO,
    DHCP,
    FINGERPRINT,
    LOCATION,
    PACKAGE,
    PLACE,
    UNPRINTABLE,
    DiskSize,
    VmIdRange,
    parse_disk_size,
    parse_interface,
    parse_interface6,
    parse_range,
)

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""What Ansible's `bool` filter takes, less the surprising rest."""


def _kind(value: Any) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return "empty" if value is None else names.get(type(value), type(value).__name__)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        advice = "; put it in quotes if it is meant as text" if isinstance(value, int | float) else ""
        raise ValueError(f"is {_kind(value)}, not text{advice}")
    if not value.strip():
        raise ValueError("is empty; leave the variable out for its default")
    if UNPRINTABLE.search(value):
        raise ValueError("holds a line break or another control character")
    return value


def _secret(value: Any) -> Secret:
    """Accept text; one line break at its end is dropped: `encrypt_string` and block scalars (`|`) leave one."""
    text = value.reveal() if isinstance(value, Secret) else value
    return Secret(_text(text.removesuffix("\n").removesuffix("\r") if isinstance(text, str) else text))


@dataclass(frozen=True)
class Matching:
    """Accepts text of a pattern; `refused` says what other text is not."""

    pattern: re.Pattern[str]
    refused: str
    longest: int = 255

    def check(self, value: Any) -> str:
        """Return the text, or raise a ValueError that says what is wrong with it."""
        text = _text(value)
        if len(text) > self.longest:
            raise ValueError(f"is longer than {self.longest} characters")
        if not self.pattern.match(text):
            raise ValueError(f"{text!r} {self.refused}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check before pydantic does."""
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell editors the pattern, in the words of ECMAScript."""
        pattern = self.pattern.pattern.replace(r"\Z", "$").replace("(?P<", "(?<")
        return {**handler(schema), "pattern": f"^{pattern}"}


def read_number(value: Any, lowest: int, highest: int) -> int:
    """Return a whole number; text of digits is one, too.

    :raises ValueError: it is none, or lies outside.
    """
    number = int(value) if isinstance(value, str) and re.match(r"[0-9]{1,12}\Z", value) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"is {'a fraction' if isinstance(value, float) else _kind(value)}, not a whole number")
    if not lowest <= number <= highest:
        raise ValueError(f"{number} is too {'small' if number < lowest else 'large'}")
    return number


def whole(lowest: int, highest: int) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return what accepts a whole number between two, both included (for `Annotated`)."""
    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return BeforeValidator(lambda value: read_number(value, lowest, highest)), WithJsonSchema(schema)


def _truth(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in TRUTH:
        return TRUTH[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"is {_kind(value)}, not a truth value")
    return value


def _disk(value: Any) -> DiskSize:
    return value if isinstance(value, DiskSize) else parse_disk_size(_text(value))


def _interface(value: Any) -> IPv4Interface:
    return value if isinstance(value, IPv4Interface) else parse_interface(_text(value))


def _interface_or_dhcp(value: Any) -> IPv4Interface | str:
    return DHCP if value == DHCP else _interface(value)


def _interface6(value: Any) -> IPv6Interface | str:
    if value in (AUTO, DHCP):
        return str(value)
    return value if isinstance(value, IPv6Interface) else parse_interface6(_text(value))


def _address(kind: type[IPv4Address | IPv6Address], name: str) -> BeforeValidator:
    """Return what accepts an address of a kind (for `Annotated`)."""

    def check(value: Any) -> IPv4Address | IPv6Address:
        if isinstance(value, kind):
            return value
        text = _text(value)
        try:
            return kind(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not an {name} address") from error

    return BeforeValidator(check)


def _range(value: Any) -> VmIdRange:
    return value if isinstance(value, VmIdRange) else parse_range(_text(value))


def _api_host(value: Any) -> str:
    text = _text(value)
    match = API_HOST.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a host")
    if match["port"] and not 0 < int(match["port"]) < 65536:
        raise ValueError(f"{match['port']} is not a port")
    return text


def _one_or_more(check: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    """Accept one value or a list of them, each checked; always a tuple."""

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            return (check(value),)
        if not value:
            raise ValueError("is an empty list; leave the variable out for its default")
        if len(set(map(str, value))) < len(value):
            raise ValueError("is a list in which something stands twice")
        return tuple(check(item) for item in value)

    return read


def read_packages(value: Any) -> tuple[str, ...]:
    """Return the names of packages.

    :raises ValueError: it is no list, or something in it cannot be a package's name.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"is {_kind(value)}, not a list")
    wrong = [item for item in value if not isinstance(item, str) or not PACKAGE.match(item)]
    if wrong:
        raise ValueError(f"{', '.join(map(repr, wrong))} cannot be the name of a package")
    return tuple(value)


def one_of(*words: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return what accepts one of some words (for `Annotated`)."""
    wanted = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))

    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"is {repr(value) if isinstance(value, str) else _kind(value)}, not {wanted}")
        return str(value)

    return BeforeValidator(check), WithJsonSchema({"type": "string", "enum": list(words)})


def _location(value: Any) -> str:
    text = _text(value)
    if "://" in text and "@" in text:  # not shown: there is a password before the @
        raise ValueError("holds a login; registries know you by `podman login`, or by the environment")
    return Matching(LOCATION, "is neither a directory nor oci://host[:port]/path").check(text)


def _base(value: Any) -> str:
    text = _text(value)
    parse_base(text)
    return text


def _checksum(value: Any) -> str:
    return parse_checksum(_text(value))


def _directory(value: Any) -> PurePosixPath:
    path = value if isinstance(value, PurePosixPath) else PurePosixPath(_text(value))
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(path)!r} is not an absolute path")
    return path


_VMID, _UID, _SECONDS = whole(100, 999_999_999), whole(100, 60_000), whole(1, 86_400)
_VLAN, _MTU = whole(1, 4094), whole(64, 65_535)
_SHELL, _WITHOUT = one_of("ssh", "none"), one_of("upload", "backup")
_CONNECTION = one_of("ssh", "direct", "console")
_WAY = one_of("ssh", "console")
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
VmId = Annotated[int, _VMID[0], _VMID[1]]
"""A guest's id (PVE 8.4, format pve-vmid)."""
Uid = Annotated[int, _UID[0], _UID[1]]
"""A user id that Debian's base system has not given away (policy 9.2.2: 0 to 99 are)."""
Seconds = Annotated[int, _SECONDS[0], _SECONDS[1]]
NodeShell = Annotated[Literal["ssh", "none"], _SHELL[0], _SHELL[1]]
WithoutShell = Annotated[Literal["upload", "backup"], _WITHOUT[0], _WITHOUT[1]]
TestConnection = Annotated[Literal["ssh", "direct", "console"], _CONNECTION[0], _CONNECTION[1]]
GuestConnection = Annotated[Literal["ssh", "console"], _WAY[0], _WAY[1]]
Truth = Annotated[bool, BeforeValidator(_truth)]
InterfaceOrDhcp = Annotated[
    IPv4Interface | Literal["dhcp"], BeforeValidator(_interface_or_dhcp), WithJsonSchema({"type": "string"})
]
Interface6 = Annotated[
    IPv6Interface | Literal["auto", "dhcp"], BeforeValidator(_interface6), WithJsonSchema({"type": "string"})
]
Address6 = Annotated[IPv6Address, _address(IPv6Address, "IPv6"), WithJsonSchema({"type": "string", "format": "ipv6"})]
VmIds = Annotated[VmIdRange, BeforeValidator(_range), WithJsonSchema({"type": "string", "pattern": "^[0-9]+-[0-9]+$"})]
Vlan = Annotated[int, _VLAN[0], _VLAN[1]]
"""IEEE 802.1Q."""
Mtu = Annotated[int, _MTU[0], _MTU[1]]
"""Bytes (PVE 8.4, netN of a container)."""
Address = Annotated[IPv4Address, _address(IPv4Address, "IPv4"), WithJsonSchema({"type": "string", "format": "ipv4"})]
Disk = Annotated[DiskSize, BeforeValidator(_disk), WithJsonSchema({"type": "string", "pattern": "^[^:]+:[0-9.]+$"})]
Location = Annotated[str, BeforeValidator(_location), WithJsonSchema({"type": "string", "minLength": 1})]
"""Of a repository."""
BaseName = Annotated[str, BeforeValidator(_base), WithJsonSchema({"type": "string", "minLength": 1})]
"""Of a base image; `bases.parse_base` takes it apart."""
Checksum = Annotated[
    str, BeforeValidator(_checksum), WithJsonSchema({"type": "string", "pattern": "^sha256:[0-9A-Fa-f]{64}$"})
]
Directory = Annotated[PurePosixPath, BeforeValidator(_directory), WithJsonSchema({"type": "string", "pattern": "^/"})]
Packages = Annotated[tuple[str, ...], BeforeValidator(read_packages)]
_LIST = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
ApiHosts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more(_api_host)), WithJsonSchema(_LIST)]
_PLACE = Matching(PLACE, "is neither a storage nor NODE:STORAGE")
Places = Annotated[tuple[str, ...], BeforeValidator(_one_or_more(_PLACE.check)), WithJsonSchema(_LIST)]
"""Storages, each alone or with the node on which it is meant."""
_PIN = Matching(FINGERPRINT, "is not a SHA-256 fingerprint")
Fingerprints = Annotated[tuple[str, ...], BeforeValidator(_one_or_more(_PIN.check)), WithJsonSchema(_LIST)]
SecretText = Annotated[Secret, BeforeValidator(_secret), WithJsonSchema({"type": "string", "writeOnly": True})]
