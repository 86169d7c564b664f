"""Requests as Proxmox reads them: who asks, and parameters from the query, a form, JSON or an upload's fields."""

from __future__ import annotations

import hmac
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import BodyPartReader, web
from multidict import MultiDict, MultiMapping

from goldsmith.base.secrets import Secret
from goldsmith.node.access.permissions import AclCaller
from goldsmith.node.access.store import Access, hash_secret
from goldsmith.node.access.tickets import Tickets
from goldsmith.node.faults import ApiFault
from goldsmith.node.replies import EmptyFault

_TOKEN = re.compile(r"(?P<user>[^\s:/!]+@[A-Za-z][\w.\-]+)!(?P<name>[A-Za-z][\w.\-]+)=(?P<secret>\S+)", re.ASCII)
_FORM = "application/x-www-form-urlencoded"
_BODY_LIMIT = 2 << 20
_FIELD_LIMIT = 16384


def identify(request: web.Request, access: Access, tickets: Tickets) -> AclCaller:
    """Return who sends a request.

    :raises EmptyFault: 401, in PVE's words, which do not say what exactly is wrong.
    """
    header = request.headers.get("Authorization", "")
    if match := re.match(r"PVEAPIToken[= ](\S+)", header):
        return _identify_token(match[1], access)
    if cookie := request.cookies.get("PVEAuthCookie", ""):
        return _identify_ticket(request, unquote(cookie), access, tickets)
    raise EmptyFault("No ticket", status=401)


def _identify_token(text: str, access: Access) -> AclCaller:
    match = _TOKEN.fullmatch(text)
    user = access.find_user(match["user"]) if match else None
    token = user.tokens.get(match["name"]) if match and user and user.is_active() else None
    if match is None or token is None or not hmac.compare_digest(token.hashed, hash_secret(Secret(match["secret"]))):
        raise EmptyFault("Authentication failed!", status=401)
    if token.is_expired():
        raise EmptyFault("Authentication failed!", status=401)
    return AclCaller(f"{match['user']}!{match['name']}", access)


def _identify_ticket(request: web.Request, ticket: str, access: Access, tickets: Tickets) -> AclCaller:
    name = tickets.find_user(ticket)
    user = access.find_user(name) if name else None
    if name is None or user is None or not user.is_active():
        raise EmptyFault("permission denied - invalid PVE ticket", status=401)
    if request.method != "GET" and not tickets.has_csrf_token(request.headers.get("CSRFPreventionToken", ""), name):
        raise EmptyFault("Permission denied - invalid csrf token", status=401)
    return AclCaller(name, access)


def _collect(pairs: MultiMapping[Any]) -> dict[str, Any]:
    """Return pairs as a dictionary; a name that comes several times gives a list."""
    collected = {name: pairs.getall(name) for name in pairs}
    return {name: values if len(values) > 1 else values[0] for name, values in collected.items()}


async def read_parameters(request: web.Request) -> dict[str, Any]:
    """Return the parameters of query and body.

    :raises ApiFault: the body is of no known kind, or broken.
    """
    params = _collect(request.query)
    if request.method in ("GET", "HEAD", "DELETE") or not request.can_read_body:
        return params
    kind = request.content_type
    body = await _read_body(request)
    if not body:
        return params
    if kind == "application/json":
        return {**params, **_parse_json(body)}
    if kind == _FORM:
        return {**params, **_collect(MultiDict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True)))}
    raise ApiFault(f"upload 'Content-Type '{request.headers.get('Content-Type', '')}' not implemented", status=506)


async def _read_body(request: web.Request) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise EmptyFault("for data too large", status=501)
    return bytes(body)


def _parse_json(body: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(body)
    except ValueError as error:
        raise ApiFault(f"malformed JSON string: {error}") from error
    if not isinstance(values, dict):
        raise ApiFault("malformed JSON string: no object")
    return values


async def receive_upload(request: web.Request, folder: Path) -> dict[str, Any]:
    """Receive a file and the fields before it; `tmpfilename` names where it was put, in `folder`.

    Proxmox insists on an order: content, checksum-algorithm, checksum, then the file, as field `filename`. What comes
    after the file is not read.

    :raises EmptyFault: 400, the fields come in another order.
    :raises ApiFault: there is no file.
    """
    params: dict[str, Any] = {}
    if request.content_type != "multipart/form-data":
        raise ApiFault(f"upload 'Content-Type '{request.content_type}' not implemented", status=506)
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise EmptyFault("Bad Request", status=400)
        if part.name == "filename" and part.filename is not None:
            params["filename"] = clean_filename(part.filename)
            params["tmpfilename"] = await _store_part(part, folder)
            return params
        if part.name == "checksum" and "checksum-algorithm" not in params:
            raise EmptyFault("Bad Request", status=400)
        value = await part.read_chunk(_FIELD_LIMIT)
        params[part.name or ""] = value.decode(errors="replace").strip("\r\n")
        await part.release()
    raise ApiFault("upload failed at request's end: no file")


async def _store_part(part: BodyPartReader, folder: Path) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"pveupload-{os.urandom(16).hex()}"
    try:
        with path.open("wb") as file:
            while chunk := await part.read_chunk(1 << 20):
                file.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return str(path)


def clean_filename(name: str) -> str:
    """Return a file name without directories and with `_` for what is not safe in one (PVE)."""
    return re.sub(r"[^-a-zA-Z0-9_.]", "_", re.split(r"[/\\]", name)[-1])
