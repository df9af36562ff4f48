"""A device's request for a TLS certificate for its own key (PKCS #10, RFC 2986). `cryptography` does the work."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tasuki.sdk.errors import KeyInvalid
from tasuki.sdk.signing import Signer, Software
from tasuki.sdk.topics import checked_name


def make(device: str, signer: Signer) -> bytes:
    """The request (PEM), signed with the key itself; its only name is the device's. Raises InputError, KeyInvalid."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_name(device, "device"))])
    if not isinstance(signer, Software):
        raise KeyInvalid("the device's key does not leave its place, so TLS can't use it: enrol with --key")
    digest = None if isinstance(signer.key, Ed25519PrivateKey) else SHA256()
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(signer.key, digest).public_bytes(Encoding.PEM)
    )
