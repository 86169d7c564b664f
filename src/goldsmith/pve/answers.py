"""Reading the node's JSON: one wrapper that knows its habits (numbers as strings, 1/0 for booleans, absent keys)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NewType

from goldsmith.base.errors import PveError

Upid = NewType("Upid", str)
"""A task's name: `UPID:<node>:<pid>:<pstart>:<starttime>:<type>:<id>:<user>:`."""
VmId = NewType("VmId", int)
"""A guest's number, 100 to 999999999, unique in a cluster."""

TRUE = frozenset({True, "1", "yes", "on", "true"})


class Entry(Mapping[str, object]):
    """One JSON object of an answer, read by type."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise PveError(f"the node answered {type(value).__name__} where an object was expected")
        self._values: dict[str, object] = value

    def __getitem__(self, key: str) -> object:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, key: str, default: str = "") -> str:
        """Return a value as text; absent or null is `default`."""
        value = self._values.get(key)
        return default if value is None else str(value)

    def number(self, key: str, default: int = 0) -> int:
        """Return a whole number; Proxmox sends some as strings (`nextid`, a VM's memory) and some with a fraction."""
        value = self._values.get(key)
        if value is None or value == "":
            return default
        try:
            return int(float(str(value))) if "." in str(value) else int(str(value))
        except ValueError as error:
            raise PveError(f"the node answered '{value}' for {key} where a number was expected") from error

    def fraction(self, key: str, default: float = 0.0) -> float:
        """Return a number with a fraction."""
        value = self._values.get(key)
        return default if value is None else float(str(value))

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a boolean from 1, 0, "1", "0" or JSON's own."""
        value = self._values.get(key)
        return default if value is None else value in TRUE

    def given(self, names: Iterable[str]) -> dict[str, str]:
        """Return what is set of some options, as it can be sent back."""
        values = {name: self._values.get(name) for name in names}
        texts = {name: str(int(value)) if isinstance(value, bool) else str(value) for name, value in values.items()}
        return {name: text for name, text in texts.items() if values[name] is not None and text != ""}

    def words(self, key: str, separators: str = ",; ") -> tuple[str, ...]:
        """Return a list written as one text (`content`: commas), sorted: its order means nothing (PVE 8.4)."""
        text = self.text(key)
        for separator in separators[1:]:
            text = text.replace(separator, separators[0])
        return tuple(sorted(word for word in text.split(separators[0]) if word))


def read_entries(value: object) -> list[Entry]:
    """Read an answer that is a list of objects; null is an empty list."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise PveError(f"the node answered {type(value).__name__} where a list was expected")
    return [Entry(item) for item in value]


def read_upid(value: object) -> Upid:
    """Read an answer that names a task."""
    if not isinstance(value, str) or not value.startswith("UPID:"):
        raise PveError(f"the node answered {value!r} where a task was expected")
    return Upid(value)
