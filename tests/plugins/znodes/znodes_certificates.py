"""Certificates for tests: an authority, and a server and a client that it vouches for."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(directory: Path) -> None:
    """Write ca.pem, server.key, server.crt, client.key and client.crt."""
    directory.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    signer = ec.generate_private_key(ec.SECP256R1())

    def named(common: str) -> x509.Name:
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example, Inc.")
        return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def write(name: str, common: str, key: ec.EllipticCurvePrivateKey) -> None:
        authority = key is signer
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(common))
            .issuer_name(named("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(common)]), critical=False)
        else:
            usage = dict.fromkeys(
                ("content_commitment", "data_encipherment", "decipher_only", "digital_signature", "encipher_only",
                 "key_agreement", "key_encipherment"), False,
            )  # fmt: skip
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        certificate = builder.sign(signer, hashes.SHA256())
        (directory / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    write("ca.pem", "authority", signer)
    for name, common in (("server", "localhost"), ("client", "client")):
        key = ec.generate_private_key(ec.SECP256R1())
        write(f"{name}.crt", common, key)
        (directory / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
