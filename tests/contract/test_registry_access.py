"""Who we are to a registry, and who it is to us: passwords, tokens, certificates; with Debian's docker-registry."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from goldsmith.artifacts.credentials import Credentials
from goldsmith.artifacts.http import RegistryError, RegistryOptions, RegistryRefused
from goldsmith.artifacts.repository import Repository, open_repository
from goldsmith.artifacts.transfer import copy_version
from goldsmith.base.secrets import Secret
from tests.unit.artifacts.making import put

from .registry import RealRegistry

PASSWORD = "of-this-test"
HASH = "$2b$04$h2w1HrIUrIsD9SbW.HDkzeR0/g.zYahgaiWFeyiKLhKH4E6nX56/i"
JANE = Credentials("jane", Secret(PASSWORD))


@pytest.fixture
def local(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


@contextmanager
def running(registry: RealRegistry) -> Iterator[RealRegistry]:
    registry.start()
    try:
        yield registry
    finally:
        registry.kill()


def make_certificate(folder: Path, name: str) -> tuple[Path, Path, ec.EllipticCurvePrivateKey]:
    """A certificate for loopback that has signed itself, its key's file, and the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return certificate, key_file, key


# --- passwords


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RealRegistry]:
    users = tmp_path / "htpasswd"
    users.write_text(f"jane:{HASH}\n")
    made = RealRegistry(tmp_path / "registry", auth={"htpasswd": {"realm": "test", "path": str(users)}})
    with running(made):
        yield made


def test_a_password_is_asked_for(guarded: RealRegistry, local: Repository) -> None:
    version = put(local)
    remote = guarded.open(options=RegistryOptions(credentials=JANE))
    copy_version(version, local, remote)
    assert remote.list_versions() == [version]
    assert remote.verify() == []


@pytest.mark.parametrize(
    "credentials", [None, Credentials("jane", Secret("wrong-password")), Credentials("joe", Secret("x"))]
)
def test_a_wrong_password_is_told_but_never_shown(
    guarded: RealRegistry, local: Repository, credentials: Credentials | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(local.path))
    with pytest.raises(RegistryRefused) as refused:
        copy_version(put(local), local, guarded.open(options=RegistryOptions(credentials=credentials, patience=1)))
    assert (credentials.user if credentials else "nobody") in refused.value.message
    assert "skopeo login" in refused.value.hint
    assert "wrong-password" not in repr([refused.value.message, refused.value.hint, refused.value.detail])
    assert "wrong-password" not in guarded.read_log()


def test_a_login_of_podman_is_found(guarded: RealRegistry, local: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    home = local.path.parent / "home"
    file = home / ".config/containers/auth.json"
    file.parent.mkdir(parents=True)
    pair = base64.b64encode(f"jane:{PASSWORD}".encode()).decode()
    file.write_text(json.dumps({"auths": {f"{guarded.host}/images": {"auth": pair}}}))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    version = put(local)
    remote = guarded.open()
    copy_version(version, local, remote)
    assert remote.list_versions() == [version]


# --- tokens


@dataclass
class TokenServer:
    """Gives tokens to jane, as docker's "Token Authentication Specification" has it; the registry checks them."""

    key: ec.EllipticCurvePrivateKey
    certificate: Path
    life: int = 60
    asked: list[str] = field(default_factory=list)

    def make_token(self, scopes: list[str]) -> str:
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        shown = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        access = [_parse_scope(scope) for part in scopes for scope in part.split(" ")]
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [shown]}
        body = {
            "iss": "of-this-test", "sub": "jane", "aud": "registry", "exp": now + self.life, "nbf": now - 10,
            "iat": now, "jti": os.urandom(4).hex(), "access": access,
        }  # fmt: skip
        text = f"{_render(head)}.{_render(body)}"
        first, second = utils.decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encode(first.to_bytes(32, 'big') + second.to_bytes(32, 'big'))}"


def _parse_scope(scope: str) -> dict[str, object]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _render(value: object) -> str:
    return _encode(json.dumps(value).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def serving(server: TokenServer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            server.asked += scopes
            fits = given == f"jane:{PASSWORD}"
            answer = {"token": server.make_token(scopes), "expires_in": server.life} if fits else {"details": "no"}
            content = json.dumps(answer).encode()
            self.send_response(200 if fits else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/token"
        listening.shutdown()
        thread.join()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenServer:
    certificate, _, key = make_certificate(tmp_path, "tokens")
    return TokenServer(key, certificate)


@contextmanager
def open_token_registry(folder: Path, tokens: TokenServer) -> Iterator[RealRegistry]:
    with serving(tokens) as realm:
        auth = {
            "realm": realm,
            "service": "registry",
            "issuer": "of-this-test",
            "rootcertbundle": str(tokens.certificate),
        }
        with running(RealRegistry(folder / "registry", auth={"token": auth})) as registry:
            yield registry


def test_tokens_are_fetched_and_kept_while_they_hold(tokens: TokenServer, tmp_path: Path, local: Repository) -> None:
    with open_token_registry(tmp_path, tokens) as registry:
        version = put(local)
        remote = registry.open(options=RegistryOptions(credentials=JANE))
        copy_version(version, local, remote)
        assert remote.list_versions() == [version]
        assert remote.verify() == []
        kinds = {scope.rpartition(":")[0] for scope in tokens.asked}
        assert kinds == {"repository:images/debian-12-docker", "registry:catalog"}
        assert len(tokens.asked) <= 4 * 3  # at most each of our threads at once; then they are kept


def test_a_token_that_has_run_out_is_replaced(tokens: TokenServer, tmp_path: Path, local: Repository) -> None:
    tokens.life = -100  # the registry allows clocks to differ by a minute
    with open_token_registry(tmp_path, tokens) as registry:
        version = put(local)
        remote = registry.open(options=RegistryOptions(credentials=JANE, patience=1))
        with pytest.raises(RegistryRefused):
            remote.list_versions(version.name)
        tokens.life = 60
        copy_version(version, local, remote)
        assert remote.list_versions() == [version]


def test_who_gets_no_token_is_refused(tokens: TokenServer, tmp_path: Path) -> None:
    with open_token_registry(tmp_path, tokens) as registry:
        remote = registry.open(options=RegistryOptions(credentials=Credentials("joe", Secret("x")), patience=1))
        with pytest.raises(RegistryRefused, match="to joe"):
            remote.list_versions("debian")


# --- certificates


def test_the_authority_of_a_certificate_can_be_named(tmp_path: Path, local: Repository) -> None:
    certificate, key, _ = make_certificate(tmp_path, "registry")
    other, _, _ = make_certificate(tmp_path, "other")
    made = RealRegistry(tmp_path / "registry", tls={"certificate": str(certificate), "key": str(key)})
    with running(made) as registry:
        version = put(local)
        remote = registry.open(options=RegistryOptions(ca_file=certificate))
        copy_version(version, local, remote)
        assert remote.list_versions() == [version]
        for options in (RegistryOptions(patience=1), RegistryOptions(ca_file=other, patience=1)):
            with pytest.raises(RegistryError, match=r"the certificate of 127\.0\.0\.1:\d+ is not trusted"):
                registry.open(options=options).list_versions("debian")


def test_a_file_without_authorities_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(RegistryError, match=r"/ca\.pem holds no authorities"):
        open_repository("oci://127.0.0.1:1/images", RegistryOptions(ca_file=tmp_path / "ca.pem"))


def test_an_authority_that_this_machine_trusts_is_trusted(
    tmp_path: Path, local: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenSSL finds it, and not in the list of authorities that the HTTP library brings along."""
    certificate, key, _ = make_certificate(tmp_path, "registry")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "company.pem").write_bytes(certificate.read_bytes())
    subprocess.run(["openssl", "rehash", tmp_path / "certs"], check=True)
    made = RealRegistry(tmp_path / "registry", tls={"certificate": str(certificate), "key": str(key)})
    with running(made) as registry:
        version = put(local)
        for name, value in (("SSL_CERT_FILE", certificate), ("SSL_CERT_DIR", tmp_path / "certs")):
            with monkeypatch.context() as environment:
                environment.setenv(name, str(value))
                remote = registry.open()
                copy_version(version, local, remote)
                assert remote.list_versions() == [version]


def test_no_password_goes_out_without_tls_unless_asked_for(guarded: RealRegistry, local: Repository) -> None:
    """The system knows what 127.1 is, goldsmith does not: to it that is a host like any other."""
    location = f"oci://127.1:{guarded.port}/images"
    with pytest.raises(RegistryError, match=r"127\.1:\d+ does not speak TLS"):
        open_repository(location, RegistryOptions(credentials=JANE, patience=1)).list_versions("debian")
    assert not guarded.list_calls("/v2/")
    version = put(local)
    remote = open_repository(location, RegistryOptions(credentials=JANE, plain_http=True))
    copy_version(version, local, remote)
    assert remote.list_versions() == [version]
    assert guarded.list_calls("/v2/", " 200 ")
