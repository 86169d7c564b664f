"""Declaring a variable once: type, default, meaning, accepted form, examples. Docs and errors are made of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


def declare(description: str, accepted: str, *examples: object, default: Any = None, otherwise: str = "") -> Any:
    """Declare a variable: what it means, the form it takes (shown when a value is refused) and examples.

    :param otherwise: what happens without it, in words, where the default alone does not say so.
    """
    return Field(
        default,
        description=description,
        examples=list(examples),
        json_schema_extra={"accepted": accepted, "otherwise": otherwise},
    )


def accepted(model: type[BaseModel], name: str) -> str:
    """Return the form in which a model's variable is accepted, for an error about it."""
    extra = model.model_fields[name].json_schema_extra
    return str(extra["accepted"]) if isinstance(extra, dict) else ""
