"""A registry's calls: blobs, manifests, tags, referrers (OCI distribution-spec 1.1), one method each.

oras-py was looked at (0.2.43): it has no ranges, no resumed uploads, no mounts, no referrers, and its errors are
`ValueError`. What is left is a handful of HTTP calls, which are written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urljoin, urlsplit

from goldsmith.artifacts.http import (
    Answer,
    Http,
    RegistryError,
    RegistryOptions,
    RegistryUnreachable,
    Stream,
)
from goldsmith.artifacts.manifest import INDEX_TYPE, MANIFEST_TYPE, Descriptor, parse_descriptor, parse_json
from goldsmith.artifacts.store import BlobReader
from goldsmith.base.digest import Digest, digest_bytes
from goldsmith.base.errors import RepositoryDamaged
from goldsmith.base.events import OnBytes

CHUNK = 16 << 20
"""Bytes sent at once: what is lost at most when a connection breaks, and what is held in memory for each transfer."""
COMMIT_TIME = 900.0
"""Seconds that a registry may take to put a whole blob into its place: some copy it, in a store of objects far away."""
_ACCEPT = ", ".join(
    [
        MANIFEST_TYPE, INDEX_TYPE, "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
)  # fmt: skip
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_LOST = (404, 416)
"""What is answered to a piece of an upload that the registry has forgotten, or has more or less of than we think."""
OpenSource = Callable[[], AbstractContextManager[BlobReader]]


@dataclass
class _Upload:
    """An upload that has been begun: where it goes on, how much of it has arrived, how much is sent at once."""

    location: str
    offset: int = 0
    chunk: int = CHUNK


class Registry:
    """One registry. `image` is always the whole name that it knows an image by: `path/NAME`."""

    def __init__(self, host: str, options: RegistryOptions) -> None:
        self.host, self.options = host, options
        self.http = Http(host, options)

    # --- names

    def list_images(self) -> list[str]:
        """Return the names of all images, as far as the registry tells.

        :raises RegistryError: it keeps no catalogue, or not for us.
        """
        return list(self._list("/v2/_catalog?n=1000", "repositories", "registry:catalog:*"))

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags; none where there is no such image."""
        try:
            return list(self._list(f"/v2/{image}/tags/list?n=1000", "tags", _pull(image)))
        except RegistryError as error:
            if error.status == 404:
                return []
            raise

    def _list(self, url: str, key: str, scope: str) -> Iterator[str]:
        while url:
            answer = self.http.send_patiently("GET", url, scope=scope)
            items = parse_json(answer.content, f"the answer of {self.host}").get(key)
            yield from (str(item) for item in (items if isinstance(items, list) else []))
            url = _find_next(answer)

    # --- manifests

    def find_manifest(self, image: str, reference: str) -> Descriptor | None:
        """Return what a tag or digest names."""
        answer = self.http.send_patiently(
            "HEAD", _manifest_url(image, reference), scope=_pull(image), headers={"Accept": _ACCEPT}, expect=(200, 404)
        )
        if answer.status == 404:
            return None
        digest, size = answer.headers.get("Docker-Content-Digest"), answer.headers.get("Content-Length")
        kind = answer.headers.get("Content-Type", MANIFEST_TYPE)
        if digest is None or size is None:  # both are only recommended
            content = self.read_manifest(image, reference)
            return Descriptor(kind, digest_bytes(content), len(content))
        return Descriptor(kind, Digest(digest), int(size))

    def read_manifest(self, image: str, reference: str) -> bytes:
        """Return a manifest's bytes; by a digest they are compared with it.

        :raises RepositoryDamaged: they are not what the digest promises, or there is no such manifest.
        """
        url = _manifest_url(image, reference)
        answer = self.http.send_patiently(
            "GET", url, scope=_pull(image), headers={"Accept": _ACCEPT}, expect=(200, 404)
        )
        if answer.status == 404:
            raise RepositoryDamaged(f"manifest {reference} is missing in {self.host}/{image}")
        found = digest_bytes(answer.content)
        if reference.startswith("sha256:") and found != reference:
            raise RepositoryDamaged(f"manifest {reference} in {self.host}/{image} is damaged: it has {found}")
        return answer.content

    def put_manifest(self, image: str, reference: str, media_type: str, content: bytes) -> bool:
        """Store a manifest under a tag or its digest; tells whether the registry keeps its referrers by itself."""
        answer = self.http.send_patiently(
            "PUT", _manifest_url(image, reference), scope=_push(image), headers={"Content-Type": media_type},
            body=content, expect=(200, 201, 202),
        )  # fmt: skip
        return "OCI-Subject" in answer.headers

    def delete_manifest(self, image: str, reference: str) -> None:
        """Forget a manifest with all its tags; or, where the registry can, one tag.

        :raises RegistryError: the registry does not allow it.
        """
        try:
            self.http.send_patiently(
                "DELETE", _manifest_url(image, reference), scope=f"repository:{image}:pull,push,delete",
                expect=(200, 202, 404),
            )  # fmt: skip
        except RegistryError as error:
            if error.status not in (400, 405):
                raise
            raise _explain_undeleted(f"{self.host}/{image}", reference, error.status) from error

    def list_referrers(self, image: str, subject: Digest) -> list[Descriptor]:
        """Return the manifests that belong to one; where the registry keeps no such list, the one under a tag."""
        url = f"/v2/{image}/referrers/{subject}"
        found: list[Descriptor] = []
        while url:
            answer = self.http.send_patiently("GET", url, scope=_pull(image), expect=(200, 404))
            if answer.status == 404 or INDEX_TYPE not in answer.headers.get("Content-Type", ""):
                return self.read_referrers_tag(image, subject)
            found += _parse_index(answer.content)
            url = _find_next(answer)
        return found

    def read_referrers_tag(self, image: str, subject: Digest) -> list[Descriptor]:
        """Return the list of referrers that clients keep themselves (distribution-spec, "Referrers Tag Schema")."""
        with suppress(RepositoryDamaged):
            return _parse_index(self.read_manifest(image, name_referrers_tag(subject)))
        return []

    # --- blobs

    def has_blob(self, image: str, blob: Descriptor) -> bool:
        """Tell whether a blob is there, in its full length."""
        answer = self.http.send_patiently("HEAD", _blob_url(image, blob), scope=_pull(image), expect=(200, 404))
        return answer.status == 200 and answer.headers.get("Content-Length", str(blob.size)) == str(blob.size)

    def open_blob(self, image: str, blob: Descriptor, start: int = 0) -> Download:
        """Read a blob from an offset on."""
        return Download(self, image, blob, start)

    def get_range(self, image: str, blob: Descriptor, start: int) -> Stream:
        """Return a blob's bytes from `start` on.

        :raises RepositoryDamaged: there is no such blob.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self.http.send(
            "GET", _blob_url(image, blob), scope=_pull(image), headers=headers, stream=True, expect=(200, 206, 404, 416)
        )
        if answer.stream is None:
            raise RepositoryDamaged(f"blob {blob.digest} is missing in {self.host}/{image}")
        skipped = start if answer.status == 200 else 0
        length = answer.headers.get("Content-Length", "")
        if length.isdigit() and int(length) != blob.size - start + skipped:
            answer.stream.close()
            raise RepositoryDamaged(f"blob {blob.digest} in {self.host}/{image} has another length than it should")
        _skip(answer.stream, skipped)
        return answer.stream

    def put_blob(
        self, image: str, blob: Descriptor, open_source: OpenSource, on_bytes: OnBytes | None, mount_from: str = ""
    ) -> None:
        """Send a blob in pieces. After a break it goes on where the registry says that it is; if need be, anew.

        :param open_source: opens the blob's bytes from their beginning; called once more for each new attempt.
        :param mount_from: another image of the registry that has the blob: nothing is sent then.
        :raises RepositoryDamaged: the source is not what its digest promises; the registry has kept nothing of it.
        """
        patience = self.http.make_patience()
        upload: _Upload | None = None

        def tell(done: int) -> None:
            patience.renew()
            if on_bytes is not None:
                on_bytes(done)

        while True:
            try:
                upload = upload or self._begin(image, blob, mount_from)
                if upload is not None:
                    self._send_rest(image, blob, upload, open_source, tell)
                return self._check_arrived(image, blob)
            except RepositoryDamaged:
                self._cancel(image, upload)
                raise
            except RegistryUnreachable as error:
                patience.wait(error)
                if self.has_blob(image, blob):  # the answer was lost, not the blob
                    return None
                upload = self._resume(image, upload)
            except RegistryError as error:
                if upload is None or error.status not in _LOST:
                    raise
                patience.wait(error)
                upload = None

    def _check_arrived(self, image: str, blob: Descriptor) -> None:
        """See that a blob is there as a whole: docker's registry keeps a damaged file in whose place one is sent."""
        if not self.has_blob(image, blob):
            raise RepositoryDamaged(f"{self.host} keeps a damaged blob {blob.digest} and takes no other in its place")

    def _begin(self, image: str, blob: Descriptor, mount_from: str) -> _Upload | None:
        """Begin an upload; None when the registry had the blob elsewhere and needs none."""
        query = f"?{urlencode({'mount': blob.digest, 'from': mount_from})}" if mount_from else ""
        answer = self.http.send("POST", f"/v2/{image}/blobs/uploads/{query}", scope=_push(image), expect=(201, 202))
        if answer.status == 201:
            return None
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        return _Upload(answer.resolve_location(), chunk=max(CHUNK, int(least) if least.isdigit() else 0))

    def _send_rest(self, image: str, blob: Descriptor, upload: _Upload, open_source: OpenSource, tell: OnBytes) -> None:
        tell(upload.offset)
        with open_source() as source:
            _skip(source, upload.offset)
            while piece := _read_full(source, upload.chunk):
                span = f"{upload.offset}-{upload.offset + len(piece) - 1}"
                headers = {"Content-Type": "application/octet-stream", "Content-Range": span}
                answer = self.http.send(
                    "PATCH", upload.location, scope=_push(image), headers=headers, body=piece, expect=(202,)
                )
                upload.location = answer.resolve_location()
                upload.offset += len(piece)
                tell(upload.offset)
        self.http.send(
            "PUT", _with_digest(upload.location, blob), scope=_push(image), body=b"", expect=(201, 204),
            timeout=COMMIT_TIME,
        )  # fmt: skip

    def _resume(self, image: str, upload: _Upload | None) -> _Upload | None:
        """Ask how much of an upload has arrived; None when the registry knows nothing of it any more.

        Docker's registry (2.8.2, tried) signs the offset into the location and forgets an upload that has more bytes
        than that: what broke between two pieces goes on, what broke in the middle of one begins anew.
        """
        if upload is None:
            return None
        try:
            answer = self.http.send_patiently("GET", upload.location, scope=_push(image), expect=(202, 204))
        except RegistryUnreachable:
            raise
        except RegistryError:
            return None
        end = answer.headers.get("Range", "").rpartition("-")[2]
        arrived = int(end) + 1 if end.isdigit() and int(end) else 0
        return _Upload(answer.resolve_location(), arrived, upload.chunk)

    def _cancel(self, image: str, upload: _Upload | None) -> None:
        if upload is not None:
            with suppress(RegistryError):
                self.http.send("DELETE", upload.location, scope=_push(image), expect=(200, 202, 204))


class Download:
    """A blob's bytes; when the connection breaks, another one goes on where it was."""

    def __init__(self, registry: Registry, image: str, blob: Descriptor, start: int) -> None:
        self._registry, self._image, self._blob = registry, image, blob
        self._patience = registry.http.make_patience()
        self._stream: Stream | None = None
        self._done = start

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        while True:
            try:
                return self._read(size)
            except RegistryUnreachable as error:
                self.close()
                self._patience.wait(error)

    def _read(self, size: int) -> bytes:
        if self._done >= self._blob.size:
            return b""
        if self._stream is None:
            self._stream = self._registry.get_range(self._image, self._blob, self._done)
        data = self._stream.read(size)
        if not data:
            raise RegistryUnreachable(f"{self._registry.host} broke off after {self._done} bytes")
        self._done += len(data)
        self._patience.renew()
        return data

    def close(self) -> None:
        """Stop reading."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def name_referrers_tag(subject: Digest) -> str:
    """Return the tag under which clients keep the list of a manifest's referrers."""
    return subject.replace(":", "-", 1)


def _parse_index(content: bytes) -> list[Descriptor]:
    manifests = parse_json(content, "an index").get("manifests")
    return [parse_descriptor(entry) for entry in (manifests if isinstance(manifests, list) else [])]


def _pull(image: str) -> str:
    return f"repository:{image}:pull"


def _push(image: str) -> str:
    return f"repository:{image}:pull,push"


def _manifest_url(image: str, reference: str) -> str:
    return f"/v2/{image}/manifests/{quote(reference, safe=':')}"


def _blob_url(image: str, blob: Descriptor) -> str:
    return f"/v2/{image}/blobs/{blob.digest}"


def _with_digest(location: str, blob: Descriptor) -> str:
    return f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': blob.digest})}"


def _find_next(answer: Answer) -> str:
    found = _NEXT.search(answer.headers.get("Link", ""))
    return urljoin(answer.url, found[1]) if found else ""


def _read_full(source: BlobReader, size: int) -> bytes:
    """Read exactly so much, or to the end."""
    parts: list[bytes] = []
    while size and (data := source.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _skip(source: BlobReader | Stream, size: int) -> None:
    while size and (data := source.read(min(size, CHUNK))):
        size -= len(data)


def _explain_undeleted(where: str, reference: str, status: int) -> RegistryError:
    """Return the error of a registry that answers 405, where nothing may be deleted, or 400, where no tag can be.

    (docker-registry 2.8, tried; from version 3 on it forgets tags.)
    """
    if status == 405:
        message = f"{where} does not let anything be deleted: {reference}"
        hint = "Debian's docker-registry: `delete: {enabled: true}` below `storage` in its configuration"
    else:
        message = f"{where} does not forget {reference}"
        hint = "docker-registry before version 3 forgets no tags: let it name another version instead"
    return RegistryError(message, status=status, hint=hint)
