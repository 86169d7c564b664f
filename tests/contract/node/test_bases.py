"""Base images from elsewhere on a node: `download-url` as Proxmox has it; a URL, a file, an image are brought.

A real web server on loopback, Debian's docker-registry, an embedded node without guests.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard
from proxmoxer import ResourceException

from goldsmith.artifacts.export import digest_template
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.registry import Registry
from goldsmith.base.digest import Digest, digest_bytes, digest_file
from goldsmith.base.errors import (
    DefinitionError,
    PermissionMissing,
    PveError,
    RepositoryError,
    TaskFailed,
    VersionNotFound,
)
from goldsmith.base.events import Events
from goldsmith.build.doctor.examine import Examination, check_base_image
from goldsmith.build.facts import Site
from goldsmith.build.foreign import Carrier, find_foreign
from goldsmith.definition.image import Image
from goldsmith.definition.variables import Variables
from goldsmith.pve.client import open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.shell import LocalShell
from tests.contract.node.conftest import Served
from tests.contract.registry import QUICK, RealRegistry
from tests.unit.artifacts.making import put
from tests.unit.artifacts.test_squash import Entry, make_layer

CONTENT = b"a template" * 50_000
SUM = hashlib.sha256(CONTENT).hexdigest()
DOWNLOAD = "/api2/json/nodes/pve/storage/local/download-url"
LAYER, DOCKER_LAYER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
BOOTABLE: list[Entry] = [("usr/sbin/sshd", "x"), ("usr/lib/systemd/systemd", "x"), ("sbin", "->usr/sbin"),
                         ("usr/sbin/init", "->../lib/systemd/systemd")]  # fmt: skip


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; `/broken/` breaks off, and says nothing on the way."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not self.path.startswith("/broken/"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
        return None

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Web:
    """A web server with one folder."""

    folder: Path
    port: int
    asked: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "base.tar.zst").write_bytes(CONTENT)
    made = Web(folder, 0)
    handler = type("Handler", (Quiet,), {"asked": made.asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as server:
        made.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture(autouse=True)
def tidy(served: Served) -> Iterator[Path]:
    """The folder of templates, which is empty before and after each test."""
    folder = served.settings.state / "storage/template/cache"
    yield folder
    for path in folder.iterdir():
        path.unlink()
    assert list((served.settings.state / "storage").glob(".upload/*")) == []


def download(served: Served, web: Web, name: str = "base.tar.zst", **params: Any) -> tuple[str, list[str]]:
    """Let the node download; returns how the task ended, and its log."""
    given = {"content": "vztmpl", "filename": "got.tar.zst", "url": web.url(name), **params}
    answer = served.request("POST", DOWNLOAD, data={key.replace("_", "-"): value for key, value in given.items()})
    assert answer.status_code == 200, answer.text
    upid = answer.json()["data"]
    assert upid.split(":")[5:7] == ["download", given["filename"]]
    return served.wait(upid)["exitstatus"], served.log(upid)


def test_a_download_is_compared_and_filed_away(served: Served, web: Web, tidy: Path) -> None:
    ended, log = download(served, web, checksum_algorithm="sha256", checksum=SUM.upper())
    assert ended == "OK"
    assert log[0] == f"downloading {web.url('base.tar.zst')} to {tidy / 'got.tar.zst'}"
    assert "OK, checksum verified" in log
    assert (tidy / "got.tar.zst").read_bytes() == CONTENT


def test_a_file_that_is_right_is_not_downloaded_again(served: Served, web: Web) -> None:
    for _ in range(2):
        ended, log = download(served, web, checksum_algorithm="sha256", checksum=SUM)
        assert ended == "OK"
    assert "OK, got correct file already, no need to download" in log
    assert len(web.asked) == 1


def test_a_file_of_that_name_is_never_replaced(served: Served, web: Web, tidy: Path) -> None:
    (tidy / "got.tar.zst").write_bytes(b"somebody else's")
    found = hashlib.sha256(b"somebody else's").hexdigest()
    ended, _ = download(served, web, checksum_algorithm="sha256", checksum=SUM)
    assert ended == f"checksum mismatch: got '{found}' != expect '{SUM}', aborting"
    assert download(served, web)[0] == f"refusing to override existing file '{tidy / 'got.tar.zst'}'"
    assert (tidy / "got.tar.zst").read_bytes() == b"somebody else's"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("base.tar.zst", "checksum mismatch: got"),
        ("none.tar.zst", "download failed: 404 File not found"),
        ("broken/x.tar.zst", "download failed: "),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing(served: Served, web: Web, tidy: Path, name: str, said: str) -> None:
    ended, _ = download(served, web, name, checksum_algorithm="sha256", checksum="0" * 64)
    assert ended.startswith(said)
    assert list(tidy.iterdir()) == []


def test_downloads_that_are_refused(served: Served, web: Web) -> None:
    for changes, errors in (
        ({"url": "ftp://x/y"}, {"url": "value does not match the regex pattern"}),
        ({"filename": "x.zip"}, {"filename": "wrong file extension"}),
        ({"checksum": "00"}, {"checksum": "missing property - 'checksum-algorithm' requires this property"}),
    ):
        params = {"content": "vztmpl", "filename": "x.tar.zst", "url": web.url("x"), **changes}
        answer = served.request("POST", DOWNLOAD, data=params)
        assert (answer.status_code, answer.json()["errors"]) == (400, errors)


def test_what_a_server_says_of_a_file(served: Served, web: Web) -> None:
    query = served.api.nodes("pve")("query-url-metadata")
    assert query.get(url=web.url("base.tar.zst") + "?x=1")["size"] == len(CONTENT)
    assert query.get(url=web.url("base.tar.zst") + "?x=1")["filename"] == "base.tar.zst"
    with pytest.raises(ResourceException) as caught:
        query.get(url=web.url("none.tar.zst"))
    assert caught.value.content == "invalid server response: '404 File not found'"


# --- what a build does with it


@contextmanager
def open_site(served: Served, **credentials: Any) -> Iterator[Site]:
    address = served.access.address
    given = {"token_id": served.access.token_id, "token_secret": served.access.token_secret, **credentials}
    with open_pve(Connection(address.host, address.port, fingerprint=address.fingerprint, **given)) as pve:
        yield Site(pve=pve, node=pve.node("pve"), shell=LocalShell(), kind="embedded", version="8.4")


@pytest.fixture
def site(served: Served) -> Iterator[Site]:
    with open_site(served) as site:
        yield site


@pytest.fixture
def bring(site: Site, tmp_path: Path) -> Callable[..., str]:
    """Bring the base image of some variables to the node; returns its file's name there."""

    def work(base: str, at: Site = site, **variables: Any) -> str:
        found = find_foreign(make_image(tmp_path, base_image=base, **variables), at)
        assert found is not None
        return Carrier(at, "local", tmp_path / "state", Events(), lambda _: None).ensure(found).name

    return work


def make_image(folder: Path, **variables: Any) -> Image:
    base = variables.get("base_image", "")
    if base.startswith("oci://"):  # the image's own registry
        variables.setdefault("repository", "/".join(base.split("/")[:3]) + "/golden")
    return Image("golden", folder, folder, Variables(**variables))


def test_a_url_is_brought_once_under_its_digest(web: Web, bring: Callable[..., str], tidy: Path) -> None:
    for _ in range(2):
        assert bring(web.url("base.tar.zst?k=v"), base_checksum=f"sha256:{SUM}") == f"base-{SUM[:16]}.tar.zst"
    assert len(web.asked) == 1
    assert [path.read_bytes() for path in tidy.iterdir()] == [CONTENT]


def test_a_url_with_another_content_leaves_nothing_and_says_so(web: Web, bring: Callable[..., str], tidy: Path) -> None:
    with pytest.raises(TaskFailed, match="checksum mismatch") as caught:
        bring(web.url("base.tar.zst"), base_checksum="sha256:" + "0" * 64)
    assert caught.value.hint.startswith("what is behind the URL is not what base_checksum says")
    assert list(tidy.iterdir()) == []


def test_a_node_without_a_way_there_gets_a_hint(web: Web, bring: Callable[..., str]) -> None:
    with pytest.raises(TaskFailed, match="404") as caught:
        bring(web.url("none.tar.zst"), base_checksum=f"sha256:{SUM}")
    assert f"let base_image be its path: ./none-{SUM[:16]}.tar.zst" in caught.value.hint


def test_a_right_that_is_missing_is_named(
    served: Served, web: Web, bring: Callable[..., str], make_user: Callable[..., str]
) -> None:
    make_user("ci@pve")
    made = served.api.access.users("ci@pve").token("t1").post(privsep=0)
    served.api.access.acl.put(path="/storage/local", roles="PVEDatastoreAdmin", users="ci@pve")
    from goldsmith.base.secrets import Secret

    with open_site(served, token_id=made["full-tokenid"], token_secret=Secret(made["value"])) as poor:
        with pytest.raises(PermissionMissing) as caught:
            bring(web.url("base.tar.zst"), poor, base_checksum=f"sha256:{SUM}")
        assert "Sys.AccessNetwork on /nodes/pve, or a file on this machine as base" in caught.value.hint
        assert poor.node.read_architecture() == "amd64"  # it may not see the node's status


def test_a_file_is_sent_once(site: Site, bring: Callable[..., str], tmp_path: Path, tidy: Path) -> None:
    file = tmp_path / "my base.tar.gz"
    file.write_bytes(CONTENT)
    assert bring("./my base.tar.gz") == f"my_base-{SUM[:16]}.tar.gz"
    before = (tidy / f"my_base-{SUM[:16]}.tar.gz").stat()
    assert bring(str(file), base_checksum=f"sha256:{SUM}") == f"my_base-{SUM[:16]}.tar.gz"
    assert (tidy / f"my_base-{SUM[:16]}.tar.gz").stat().st_ino == before.st_ino
    with pytest.raises(DefinitionError) as caught:
        bring(str(file), base_checksum="sha256:" + "0" * 64)
    assert f"base_checksum is not that of {file}, sha256:{SUM}" in caught.value.detail


def test_what_has_been_damaged_on_the_node_is_not_built_upon(
    bring: Callable[..., str], tmp_path: Path, tidy: Path
) -> None:
    (tmp_path / "base.tar.zst").write_bytes(CONTENT)
    (tidy / f"base-{SUM[:16]}.tar.zst").write_bytes(CONTENT[:-1])
    with pytest.raises(PveError, match=rf"local:vztmpl/base-{SUM[:16]}.tar.zst is damaged") as caught:
        bring("./base.tar.zst")
    assert caught.value.hint.endswith(f"pvesm free local:vztmpl/base-{SUM[:16]}.tar.zst")


def test_doctor_says_whether_the_node_gets_a_base(
    web: Web, site: Site, bring: Callable[..., str], tmp_path: Path
) -> None:
    def look(base: str, **variables: Any) -> tuple[str, str]:
        image = make_image(tmp_path, base_image=base, **variables)
        (finding,) = check_base_image(Examination(image, site))
        return finding.level, finding.message

    checksum = {"base_checksum": f"sha256:{SUM}"}
    url = web.url("base.tar.zst")
    assert look(url, **checksum) == ("ok", f"the node downloads {url}, 500 kB")
    assert look(web.url("none.tar.zst"), **checksum)[0] == "error"
    bring(url, **checksum)
    assert look(url, **checksum) == ("ok", f"local has base-{SUM[:16]}.tar.zst")
    (tmp_path / "mine.tar.zst").write_bytes(CONTENT)
    assert look("./mine.tar.zst") == ("ok", f"it is sent to local: mine.tar.zst of this machine: sha256:{SUM}")


# --- container images


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    made = RealRegistry(tmp_path_factory.mktemp("registry"))
    made.start()
    yield made
    made.kill()


def push(registry: RealRegistry, path: str, data: bytes, kind: str) -> dict[str, Any]:
    """Put a blob into a registry; returns its descriptor."""
    from goldsmith.artifacts.store import BlobReader

    blob = Descriptor(kind, digest_bytes(data), len(data))

    @contextmanager
    def source() -> Iterator[BlobReader]:
        import io

        yield BlobReader(io.BytesIO(data), blob)

    Registry(registry.host, QUICK).put_blob(path, blob, source, None)
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def push_image(
    registry: RealRegistry, path: str, tag: str, layers: list[bytes], *, kinds: list[str] | None = None,
    architecture: str = "amd64", entrypoint: list[str] | None = None, annotations: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Put an image into a registry; returns its manifest's descriptor."""
    plain = [digest_bytes(unpack(layer)) for layer in layers]
    kinds = kinds or [LAYER] * len(layers)
    config = {
        "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": plain},
        "config": {"Entrypoint": entrypoint or []},
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST, "annotations": annotations or {},
        "config": push(registry, path, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [push(registry, path, layer, kind) for layer, kind in zip(layers, kinds, strict=True)],
    }  # fmt: skip
    return push_manifest(registry, path, tag, manifest)


def push_manifest(registry: RealRegistry, path: str, tag: str, document: dict[str, Any]) -> dict[str, Any]:
    data, kind = json.dumps(document).encode(), str(document["mediaType"])
    client = Registry(registry.host, QUICK)
    for name in (digest_bytes(data), tag):
        client.put_manifest(path, name, kind, data)
    return {"mediaType": kind, "digest": digest_bytes(data), "size": len(data)}


def unpack(layer: bytes) -> bytes:
    if layer.startswith(b"\x1f\x8b"):
        return gzip.decompress(layer)
    if layer.startswith(b"\x28\xb5"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(layer)
    return layer


def tar(*entries: Entry) -> bytes:
    return make_layer(entries).getvalue()


def read_names(path: Path) -> set[str]:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(unpack(path.read_bytes()))) as archive:
        return {name for name in archive.getnames() if not name.startswith("usr") and name != "."}


def test_layers_of_all_kinds_become_one_template(registry: RealRegistry, bring: Callable[..., str], tidy: Path) -> None:
    layers = [
        gzip.compress(tar(*BOOTABLE, ("etc/", "dir"), ("etc/a", "1"), ("gone", "1"))),
        zstandard.compress(tar((".wh.gone", ""), ("etc/a", "2"))),
        tar(("etc/b", "3")),
    ]
    kinds = [DOCKER_LAYER, f"{LAYER}+zstd", LAYER]
    pushed = push_image(registry, "base/systemd", "12", layers, kinds=kinds)
    for _ in range(2):
        name = bring(f"oci://{registry.host}/base/systemd:12")
    assert name.startswith(f"systemd-{pushed['digest'][7:23]}-")
    assert name == f"systemd-{pushed['digest'][7:23]}-{digest_file(tidy / name)[7:23]}.tar.zst"
    assert read_names(tidy / name) == {"etc", "etc/a", "etc/b", "sbin"}
    assert [path.name for path in tidy.iterdir()] == [name]
    assert len(registry.list_calls("GET /v2/base/systemd/blobs/sha256:")) == 2 + 3


def test_of_an_index_the_nodes_architecture_is_taken(registry: RealRegistry, site: Site, tmp_path: Path) -> None:
    listed = []
    for architecture in ("arm64", "amd64"):
        pushed = push_image(registry, "base/many", architecture, [tar(*BOOTABLE)], architecture=architecture)
        listed.append({**pushed, "platform": {"os": "linux", "architecture": architecture}})
    unknown = {**listed[0], "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [unknown, *listed]}
    pinned = push_manifest(registry, "base/many", "1", index)["digest"]
    for reference in (f"{registry.host}/base/many:1", f"{registry.host}/base/many@{pinned}"):
        found = find_foreign(make_image(tmp_path, base_image=f"oci://{reference}"), site)
        assert found is not None
        assert found.digest == listed[1]["digest"]
        assert found.told == f"{reference} is {found.digest} now, for amd64"
    push_manifest(registry, "base/many", "2", {**index, "manifests": [unknown, listed[0]]})
    for tag in ("2", "arm64"):
        with pytest.raises(VersionNotFound, match="for the node's architecture, amd64") as caught:
            find_foreign(make_image(tmp_path, base_image=f"oci://{registry.host}/base/many:{tag}"), site)
        assert caught.value.hint == "there is: arm64"


def test_an_image_that_cannot_boot_is_refused_before_anything_is_sent(
    registry: RealRegistry, bring: Callable[..., str], tidy: Path, tmp_path: Path
) -> None:
    push_image(registry, "apps/web", "1", [tar(("usr/bin/web", "x"))], entrypoint=["/usr/bin/web", "-v"])
    with pytest.raises(RepositoryError) as caught:
        bring(f"oci://{registry.host}/apps/web:1")
    said = "apps/web:1 cannot boot as a system: it has no /sbin/init; it is made to run /usr/bin/web -v alone"
    assert caught.value.message == f"{registry.host}/{said}"
    assert "systemd-sysv and openssh-server" in caught.value.hint
    push_image(registry, "apps/init", "1", [tar(("sbin/init", "x"))])
    with pytest.raises(RepositoryError, match="it has no /usr/sbin/sshd"):
        bring(f"oci://{registry.host}/apps/init:1")
    assert list(tidy.iterdir()) == []
    assert [path.suffix for path in (tmp_path / "state/bases").iterdir()] == [".lock", ".lock"]


def test_what_is_no_image_is_named(registry: RealRegistry, site: Site, tmp_path: Path) -> None:
    def find(reference: str) -> None:
        find_foreign(make_image(tmp_path, base_image=f"oci://{registry.host}/{reference}"), site)

    with pytest.raises(VersionNotFound, match=r"there is no .*/none:1"):
        find("none:1")
    push_image(registry, "charts", "1", [b"chart"], kinds=["application/vnd.cncf.helm.chart.content.v1.tar+gzip"])
    with pytest.raises(RepositoryError, match=r"is no container image: it holds application/vnd\.cncf\.helm"):
        find("charts:1")


def test_a_layer_that_unpacks_to_something_else_is_refused(
    registry: RealRegistry, bring: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.contract.node.test_bases.unpack", lambda _: b"something else")
    push_image(registry, "base/odd", "1", [tar(*BOOTABLE)])
    monkeypatch.undo()
    with pytest.raises(RepositoryError, match="which is wrong"):
        bring(f"oci://{registry.host}/base/odd:1")


def test_a_version_of_ours_is_brought_as_it_is_stored(
    registry: RealRegistry, bring: Callable[..., str], site: Site, tmp_path: Path, tidy: Path
) -> None:
    repository = registry.open("golden")
    version = put(repository)
    base = f"oci://{registry.host}/golden/{version.name}"
    found = find_foreign(make_image(tmp_path, base_image=f"{base}:{version.tag}"), site)
    assert found is not None
    assert (found.stored, found.digest) == (version, version.digest)
    names = {bring(f"{base}:{version.tag}"), bring(f"{base}@{version.digest}")}
    digest: Digest = digest_template(repository, version)
    assert names == {f"{version.name}-{version.digest[7:23]}-{digest[7:23]}.tar.zst"}
    assert digest_file(tidy / names.pop()) == digest


def test_the_login_for_ones_own_registry_goes_to_no_other(
    registry: RealRegistry, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOLDSMITH_REGISTRY_USER", "ops")
    monkeypatch.setenv("GOLDSMITH_REGISTRY_PASSWORD", "unmistakable")
    sent: list[object] = []
    monkeypatch.setattr(
        "goldsmith.artifacts.container_image.Registry", lambda _, options: sent.append(options) or 1 / 0
    )
    base = f"oci://{registry.host}/base/many:1"
    for repository, user in (("oci://elsewhere.example.org/golden", None), (f"oci://{registry.host}/x", "ops")):
        with pytest.raises(ZeroDivisionError):
            find_foreign(make_image(tmp_path, base_image=base, repository=repository), site)
        credentials = sent[-1].credentials
        assert (None if credentials is None else credentials.user) == user
