"""The enrolment file: carried to the device out of band, it is what the device trusts the gateway by.

What is written depends on the content: without a token format 1, so that devices of older versions go on reading what
a newer gateway makes for them; with one format 2, which they refuse by its number instead of connecting without it.
"""

import ipaddress
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tasuki.sdk import keys
from tasuki.sdk.envelope import SUITES
from tasuki.sdk.errors import InputError, KeyInvalid
from tasuki.sdk.topics import checked_name

FORMAT: Final = 1
TOKEN_FORMAT: Final = 2
MAX_BYTES: Final = 64 << 10
MAX_TOKEN: Final = 1024


@dataclass(frozen=True)
class Tls:
    """PEM texts: the fleet's CA, and the client's certificate and private key (None beside a token)."""

    ca: str
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Enrolment:
    """Fleet, name, broker, and the gateway's public keys (raw bytes); `sealing` is that of `suite`.

    `token` is the password that the broker knows the device by, under the device's name.
    """

    fleet: str
    device: str
    host: str
    port: int
    artifact: bytes
    gateway: bytes
    suite: int
    sealing: bytes
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)


def check_access(enrolment: Enrolment) -> None:
    """Raises KeyInvalid unless token and certificates are such that a broker may be shown them."""
    tls, token = enrolment.tls, enrolment.token
    if tls is not None and (tls.certificate is None) != (tls.key is None):
        raise KeyInvalid("the enrolment has a certificate without its key, or a key without its certificate")
    if token is None:
        if tls is not None and tls.certificate is None:
            raise KeyInvalid("the enrolment has neither a client certificate nor a token")
        return
    if not (isinstance(token, str) and 1 <= len(token) <= MAX_TOKEN and token.isprintable()):
        raise KeyInvalid(f"a token is a text of 1 to {MAX_TOKEN} printable characters")
    if tls is None and not _loopback(enrolment.host):
        raise KeyInvalid(f"a token would go to {enrolment.host} in the clear: enrol with TLS, or use the loopback")


def encode(enrolment: Enrolment) -> bytes:
    """The file's content (JSON). Raises KeyInvalid if the token can't be used."""
    check_access(enrolment)
    tls = enrolment.tls
    fields: dict[str, Any] = {
        "format": FORMAT if enrolment.token is None else TOKEN_FORMAT,
        "fleet": enrolment.fleet,
        "device": enrolment.device,
        "broker": {"host": enrolment.host, "port": enrolment.port},
        "artifact": enrolment.artifact.hex(),
        "gateway": b64encode(enrolment.gateway).decode(),
        "suite": enrolment.suite,
        "sealing": b64encode(enrolment.sealing).decode(),
        "tls": None if tls is None else {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key},
    }
    if enrolment.token is not None:
        fields["token"] = enrolment.token
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def decode(data: bytes) -> Enrolment:
    """Parse and check. Raises KeyInvalid."""
    if len(data) > MAX_BYTES:
        raise KeyInvalid(f"the enrolment has {len(data)} bytes, at most {MAX_BYTES}: not an enrolment file")
    try:
        return _checked(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError, KeyInvalid) as error:
        raise KeyInvalid(f"not an enrolment file ({error}); make one with `tasuki gateway enrol`") from None


def _checked(fields: Mapping[str, Any]) -> Enrolment:
    number = fields["format"]
    if type(number) is not int or number not in (FORMAT, TOKEN_FORMAT):
        raise ValueError(f"format {number}")
    if number == FORMAT and "token" in fields:
        raise ValueError(f"format {FORMAT} has no token")
    host, port, suite = fields["broker"]["host"], fields["broker"]["port"], fields["suite"]
    if not (isinstance(host, str) and host and type(port) is int and 0 < port < 65536):
        raise ValueError("broker")
    if type(suite) is not int or suite not in SUITES:
        raise ValueError(f"suite {suite}")
    artifact, gateway = bytes.fromhex(fields["artifact"]), b64decode(fields["gateway"], validate=True)
    if len(artifact) != 32:
        raise ValueError("artifact")
    keys.verifying(gateway)
    sealing = b64decode(fields["sealing"], validate=True)
    keys.sealing_public(suite, sealing)
    made = Enrolment(
        fleet=checked_name(fields["fleet"], "fleet"),
        device=checked_name(fields["device"], "device"),
        host=host,
        port=port,
        artifact=artifact,
        gateway=gateway,
        suite=suite,
        sealing=sealing,
        tls=_tls(fields["tls"], number),
        token=fields.get("token"),
    )
    check_access(made)
    return made


def _tls(fields: Mapping[str, Any] | None, number: int) -> Tls | None:
    if fields is None:
        return None
    ca, certificate, key = fields["ca"], fields["certificate"], fields["key"]
    if number == TOKEN_FORMAT and certificate is None and key is None:
        return Tls(str(ca))
    if certificate is None or key is None:
        raise ValueError("tls without certificate or key")
    return Tls(str(ca), str(certificate), str(key))


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
