"""A signing key that never leaves its token: P-256 by PKCS #11 (v2.40, CKM_ECDSA). pip install python-pkcs11

A package offers it under the entry point group "tasuki.signers", as `pkcs11 = "pkcs11_signer:open_token"`. Then
``pkcs11:TOKEN/KEY`` names a key where one is wanted: `tasuki gateway init ... --signing-key pkcs11:hsm/gateway`.
The environment has the module (such as /usr/lib/softhsm/libsofthsm2.so) in PKCS11_MODULE, and the PKCS11_PIN.
"""

import hashlib
import os
from dataclasses import dataclass

import pkcs11
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.util.ec import encode_ec_public_key

from tasuki.sdk import signing


@dataclass(frozen=True)
class TokenKey:
    """A `tasuki.sdk.signing.Signer`. `private` stays in the token, `public` is the compressed point (SEC 1, 2.3.3)."""

    private: pkcs11.PrivateKey
    public: bytes
    algorithm: int = signing.ES256

    def sign(self, data: bytes) -> bytes:
        """r and s, 32 bytes each: what CKM_ECDSA gives is what COSE wants."""
        return bytes(self.private.sign(hashlib.sha256(data).digest(), mechanism=pkcs11.Mechanism.ECDSA))


def open_token(reference: str) -> TokenKey:
    """The key that ``pkcs11:TOKEN/KEY`` names by the labels of token and key. The session stays open with it."""
    token_label, _, key_label = reference.removeprefix("pkcs11:").partition("/")
    token = pkcs11.lib(os.environ["PKCS11_MODULE"]).get_token(token_label=token_label)
    session = token.open(user_pin=os.environ["PKCS11_PIN"])
    private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=key_label)
    shown = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=key_label)
    public = load_der_public_key(encode_ec_public_key(shown))
    return TokenKey(private, signing.raw(public))
