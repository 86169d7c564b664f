"""Answers as Proxmox sends them: the reason in the HTTP status line, `{"data": ...}`, errors by parameter.

`/api2/json` tells success by the status; `/api2/extjs` always answers 200 and tells it inside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from goldsmith.node.faults import ApiFault

_JSON = "application/json;charset=UTF-8"


@dataclass(frozen=True)
class Answer:
    """What a method may return instead of plain data: data and what stands beside it, such as `total`."""

    data: Any
    beside: dict[str, Any] = field(default_factory=dict)


class EmptyFault(ApiFault):
    """A refusal without a body: 401 and some of HTTP's own."""


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _one_line(reason: str) -> str:
    """Return a reason that can stand in a status line."""
    return " ".join(reason.split())


def render_data(result: Any, style: str) -> web.Response:
    """Render a method's result."""
    answer = result if isinstance(result, Answer) else Answer(result)
    body = {"data": answer.data, **answer.beside}
    if style == "extjs":
        body["success"] = 1
    return web.Response(body=_encode(body), headers={"Content-Type": _JSON})


def render_fault(fault: ApiFault, style: str) -> web.Response:
    """Render a refusal or failure."""
    if isinstance(fault, EmptyFault):
        return web.Response(status=fault.status, reason=_one_line(fault.reason))
    body: dict[str, Any] = {"data": None, "message": fault.reason.rstrip("\n") + "\n"}
    if fault.errors:
        body["errors"] = fault.errors
    if style == "extjs":
        body |= {"success": 0, "status": fault.status}
        return web.Response(body=_encode(body), headers={"Content-Type": _JSON})
    return web.Response(
        status=fault.status, reason=_one_line(fault.reason), body=_encode(body), headers={"Content-Type": _JSON}
    )
