"""The node's certificate: made by itself, for the loopback address; clients pin its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from goldsmith.base.files import write_atomic

_DAYS = 3650
_RENEW_DAYS = 30


def ensure_certificate(folder: Path, node: str) -> tuple[Path, Path]:
    """Return the paths of certificate and key, making them when they are missing or about to end."""
    certificate, key = folder / "pve-ssl.pem", folder / "pve-ssl.key"
    if not (certificate.exists() and key.exists() and _is_current(certificate)):
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomic(key, pem, mode=0o600)
        write_atomic(certificate, _make(private, node).public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _is_current(path: Path) -> bool:
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return ends - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=_RENEW_DAYS)


def _make(private: ec.EllipticCurvePrivateKey, node: str) -> x509.Certificate:
    """Return a certificate that is its own authority, so that it can be given as CA file as well as pinned."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "goldsmith embedded node"),
        x509.NameAttribute(NameOID.COMMON_NAME, node),
    ])  # fmt: skip
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names += [x509.DNSName(text) for text in dict.fromkeys(("localhost", node))]
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(private, hashes.SHA256())
    )


def get_fingerprint(certificate: Path) -> str:
    """Return a certificate's SHA-256 in Proxmox's form: `AB:CD:...`."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())
