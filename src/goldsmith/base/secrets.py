"""Values that must not be seen: `Secret` masks itself wherever text is made of it, `Masker` cleans other texts."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

MASK = "********"


class Secret:
    """A string that shows itself only through `reveal()`; `str`, `repr`, format and JSON see a mask."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret. Call it at the last moment, where the value leaves the program, and keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled: it would leave the process unmasked")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic fields be Secret: accepts a str or a Secret, serialises as the mask."""
        from pydantic_core import core_schema

        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), from_text],
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )


class Masker:
    """Replaces every known secret in a text by a mask. Longest first, so that no tail of a longer one stays."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._values: list[str] = []
        self.add(*secrets)

    def add(self, *secrets: Secret) -> None:
        """Remember more secrets; an empty one would match everywhere and is passed over."""
        values = {*self._values, *(secret.reveal() for secret in secrets if secret)}
        self._values = sorted(values, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """Return the text without any known secret."""
        for value in self._values:
            text = text.replace(value, MASK)
        return text


def find_secrets(value: Any) -> list[Secret]:
    """Return every secret in a value, however deep."""
    if isinstance(value, Secret):
        return [value]
    if isinstance(value, Mapping):
        return find_secrets(list(value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return [secret for item in value for secret in find_secrets(item)]
    return []


def list_disguises(secrets: Iterable[Secret]) -> list[Secret]:
    """Return the secrets and the forms in which other programs' output may show them.

    Ansible prints results as JSON (quotes and line ends escaped, twice now and then), pytest shows values as Python
    writes them; a text of several lines also comes line by line.
    """
    texts = [secret.reveal() for secret in secrets]
    escaped = [json.dumps(text, ensure_ascii=ascii_only)[1:-1] for text in texts for ascii_only in (True, False)]
    twice = [json.dumps(text)[1:-1] for text in escaped]
    written = [repr(text)[1:-1] for text in texts]
    lines = [line.strip() for text in texts if "\n" in text.strip() for line in text.splitlines()]
    telling = [line for line in lines if len(line) >= 8 and not line.startswith("-----")]
    return [Secret(text) for text in dict.fromkeys([*texts, *escaped, *twice, *written, *telling]) if text]
