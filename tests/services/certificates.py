"""Certificates for tests: an authority of their own, and what it signs."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates and keeps all files in ``folder``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"authority {name}")
        self.path = folder / f"{name}.crt"
        built = _builder(self._name, self._name, self._key, valid=True)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        signed = built.sign(self._key, hashes.SHA256())
        self.path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, file: str, *, valid: bool = True) -> tuple[Path, Path]:
        """A certificate for a host, an address or a user, and its key, which only its owner may
        read; not ``valid``: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(_named(name), self._name, key, valid=valid)
        host: x509.GeneralName = x509.DNSName(name)
        if name[0].isdigit():
            host = x509.IPAddress(ip_address(name))
        built = built.add_extension(x509.SubjectAlternativeName([host]), critical=False)
        signed = built.sign(self._key, hashes.SHA256())
        certificate, secret = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as written:
            written.write(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return certificate, secret


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, valid: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = now + timedelta(days=1) if valid else now - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(end)
    )
