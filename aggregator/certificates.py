"""The fleet's certificate authority for TLS between devices and broker (X.509, RFC 5280). `cryptography` does the work.

`issued.jsonl` notes which certificate was made for whom, so that the revocation list can name those of a device.
"""

import datetime
import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tasuki.sdk import keys, signing
from tasuki.sdk.errors import KeyInvalid, StateCorrupt
from tasuki.sdk.keys import Password, from_environment, write_private

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 825
MAX_REQUEST: Final = 16 << 10
REVOKED: Final = "revoked.crl"
_ISSUED: Final = "issued.jsonl"
PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey


def make_authority(folder: Path, fleet: str, password: bytes | None = None) -> None:
    """Write `ca.crt`, `ca.key` (encrypted if there is a password) and an empty revocation list to `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{fleet} fleet")
    certificate = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    keys.save(folder / "ca.key", key, password)
    revoke(folder, lambda _: False, lambda: password)


def issue(
    folder: Path, common_name: str, host: str | None = None, password: Password = from_environment
) -> tuple[str, str]:
    """Certificate and private key (PEM) for a client, or for the broker on `host`. Raises KeyInvalid."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return _certify(folder, common_name, key.public_key(), host, password), pem


def certify(folder: Path, request: bytes, device: str, password: Password = from_environment) -> tuple[str, bytes]:
    """A client's certificate (PEM) for the key of a PKCS #10 `request` (PEM), and that key's raw bytes.

    The request has to be signed by the key itself and to name `device` and nothing else. Raises KeyInvalid.
    """
    if len(request) > MAX_REQUEST:
        raise KeyInvalid(f"the request has {len(request)} bytes, at most {MAX_REQUEST}")
    try:
        parsed = x509.load_pem_x509_csr(request)
        named, key, own = parsed.subject, parsed.public_key(), parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyInvalid(f"not a certificate request; make one with `tasuki device request`: {error}") from None
    if not own:
        raise KeyInvalid("the request is not signed by the key that it is for")
    if named != _name(device):
        raise KeyInvalid(f"the request is for {named.rfc4514_string()[:80]}, not for CN={device}")
    if not isinstance(key, (Ed25519PublicKey, ec.EllipticCurvePublicKey)):
        raise KeyInvalid("the request is for a key that is neither Ed25519 nor P-256")
    public = signing.check_public(signing.raw(key))
    return _certify(folder, device, key, None, password), public


def revoke(folder: Path, revoked: Callable[[str], bool], password: Password = from_environment) -> int:
    """Write the revocation list with the certificates of every client that is `revoked`; how many they are.

    The list is good for as long as the authority: brokers let nobody in by one that is out of date. Raises KeyInvalid.
    """
    authority, signer = _authority(folder, password)
    now = datetime.datetime.now(datetime.timezone.utc)
    serials = [serial for name, serial in _issued(folder) if revoked(name)]
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - datetime.timedelta(days=1))
        .next_update(authority.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    write_private(folder / REVOKED, builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
    return len(serials)


def _certify(folder: Path, common_name: str, key: PublicKey, host: str | None, password: Password) -> str:
    authority, signer = _authority(folder, password)
    role = ExtendedKeyUsageOID.CLIENT_AUTH if host is None else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(_name(common_name), authority.subject, key, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([role]), critical=False)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    if host is None:
        _note(folder, common_name, certificate.serial_number)
    return certificate.public_bytes(Encoding.PEM).decode()


def _authority(folder: Path, password: Password) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    except (OSError, ValueError) as error:
        raise KeyInvalid(f"the certificate authority in {folder} can't be used: {error}") from None
    key = keys.load_signing(folder / "ca.key", password).key
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyInvalid(f"{folder / 'ca.key'} is not a P-256 key")
    return authority, key


def _note(folder: Path, name: str, serial: int) -> None:
    """Before the certificate is given away: what was not noted could not be revoked."""
    lines = [{"device": device, "serial": f"{number:x}"} for device, number in [*_issued(folder), (name, serial)]]
    write_private(folder / _ISSUED, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _issued(folder: Path) -> list[tuple[str, int]]:
    path = folder / _ISSUED
    try:
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line["device"], int(line["serial"], 16)) for line in map(json.loads, lines)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateCorrupt(f"{path} is damaged: {error}") from None


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Devices' clocks may be a little behind.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
