"""The enrolment file: carried to the device out of band, it is what the device trusts the gateway by.

Format 3 has the maker's root key and the fleet record that it signed; all else about the gateway stands in the record.
Formats 1 and 2, which name the gateway's keys themselves, are still read, and written where a gateway has no record.
"""

import ipaddress
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tasuki.sdk import enrolment_text, fleet_record
from tasuki.sdk.enrolment_text import PREFIX
from tasuki.sdk.envelope import SUITES
from tasuki.sdk.errors import InputError, KeyInvalid, Refused
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.join import TOKEN_BYTES
from tasuki.sdk.sealing import sealing_public
from tasuki.sdk.signing import EDDSA, algorithm_of, check_public
from tasuki.sdk.topics import checked_name

FORMAT: Final = 3
TOKEN_FORMAT: Final = 2
FIRST_FORMAT: Final = 1
MAX_BYTES: Final = 64 << 10
MAX_TOKEN: Final = 1024


@dataclass(frozen=True)
class Tls:
    """PEM texts: the fleet's CA, and the client's certificate and private key.

    Both are None beside a token. Only the key is None where the certificate is for the device's own key.
    """

    ca: str
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Enrolment:
    """Fleet, name, broker, and the gateway's public keys (raw bytes); `sealing` is that of `suite`.

    `token` is the password that the broker knows the device by, under the device's name. `root` is the maker's public
    key and `record` the fleet record that it signed; `artifact`, `gateway` and `sealing` are then the record's. `join`
    is a one-time token, 32 bytes: a device asks with it to be taken in under a key that the gateway does not know.
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
    root: bytes | None = None
    record: bytes | None = field(default=None, repr=False)
    join: bytes | None = field(default=None, repr=False)


def check_access(enrolment: Enrolment) -> None:
    """Raises KeyInvalid unless tokens and certificates are such that a broker may be shown them."""
    tls, token = enrolment.tls, enrolment.token
    if tls is not None:
        if tls.certificate is None and tls.key is not None:
            raise KeyInvalid("the enrolment has a key without its certificate")
        if tls.certificate is not None and tls.key is None and enrolment.record is None:
            raise KeyInvalid("the enrolment has a certificate without its key")
        if tls.certificate is None and token is None:
            raise KeyInvalid("the enrolment has neither a client certificate nor a token")
    if enrolment.join is not None and (enrolment.record is None or len(enrolment.join) != TOKEN_BYTES):
        raise KeyInvalid(f"a one-time token has {TOKEN_BYTES} bytes and goes with a fleet record")
    if token is None:
        return
    if not (isinstance(token, str) and 1 <= len(token) <= MAX_TOKEN and token.isprintable()):
        raise KeyInvalid(f"a token is a text of 1 to {MAX_TOKEN} printable characters")
    if tls is None and not _loopback(enrolment.host):
        raise KeyInvalid(f"a token would go to {enrolment.host} in the clear: enrol with TLS, or use the loopback")


def check_root(enrolment: Enrolment, maker: bytes) -> None:
    """Raises KeyInvalid unless the enrolment's root is `maker`, the raw key that the device trusts artifacts by."""
    if enrolment.root is None:
        raise KeyInvalid("the enrolment names no root key, and this device trusts its maker's only: enrol anew")
    if enrolment.root != maker:
        raise KeyInvalid(f"the enrolment's root key is {enrolment.root.hex()[:16]}, not the maker's {maker.hex()[:16]}")


def record_of(enrolment: Enrolment) -> Record | None:
    """The verified fleet record; None for formats 1 and 2. Raises Refused."""
    if enrolment.root is None or enrolment.record is None:
        return None
    return fleet_record.verify(enrolment.record, enrolment.root, enrolment.fleet)


def with_record(enrolment: Enrolment, message: bytes) -> Enrolment:
    """`enrolment` with another root-signed record, and the gateway's keys that this one names.

    Raises Refused, and KeyInvalid if the record has no key of the device's suite.
    """
    if enrolment.root is None:
        raise KeyInvalid("the enrolment names no root key: enrol anew to have fleet records")
    record = fleet_record.verify(message, enrolment.root, enrolment.fleet)
    if enrolment.suite not in record.sealing:
        raise KeyInvalid(f"the fleet record has no sealing key of suite {enrolment.suite}")
    return replace(
        enrolment,
        record=message,
        artifact=record.artifacts[0],
        gateway=record.signing,
        sealing=record.sealing[enrolment.suite],
    )


def encode(enrolment: Enrolment) -> bytes:
    """The file's content (JSON). Raises KeyInvalid if a token or a certificate can't be used."""
    return (json.dumps(_fields(enrolment), indent=2, sort_keys=True) + "\n").encode()


def encode_text(enrolment: Enrolment) -> str:
    """The same for a QR code: one line of the characters of its alphanumeric mode. Raises KeyInvalid."""
    return enrolment_text.encode(json.dumps(_fields(enrolment), separators=(",", ":"), sort_keys=True).encode())


def decode(data: bytes) -> Enrolment:
    """Parse and check a file or a QR code's text. How old its record is does not matter here. Raises KeyInvalid."""
    if len(data) > MAX_BYTES:
        raise KeyInvalid(f"the enrolment has {len(data)} bytes, at most {MAX_BYTES}: not an enrolment file")
    try:
        return _checked(json.loads(enrolment_text.decode(data, MAX_BYTES) if data.startswith(PREFIX) else data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError, KeyInvalid, Refused) as error:
        raise KeyInvalid(f"not an enrolment file ({error}); make one with `tasuki gateway enrol`") from None


def _fields(enrolment: Enrolment) -> dict[str, Any]:
    check_access(enrolment)
    tls = enrolment.tls
    fields: dict[str, Any] = {
        "fleet": enrolment.fleet,
        "device": enrolment.device,
        "broker": {"host": enrolment.host, "port": enrolment.port},
        "suite": enrolment.suite,
        "tls": None if tls is None else {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key},
    }
    if enrolment.root is not None and enrolment.record is not None:
        return {
            **fields,
            "format": FORMAT,
            "root": _text(enrolment.root),
            "record": _text(enrolment.record),
            "token": enrolment.token,
            "join": None if enrolment.join is None else _text(enrolment.join),
        }
    fields |= {
        "format": FIRST_FORMAT if enrolment.token is None else TOKEN_FORMAT,
        "artifact": enrolment.artifact.hex(),
        "gateway": _text(enrolment.gateway),
        "sealing": _text(enrolment.sealing),
    }
    return fields if enrolment.token is None else {**fields, "token": enrolment.token}


def _checked(fields: Mapping[str, Any]) -> Enrolment:
    number = fields["format"]
    if type(number) is not int or number not in (FIRST_FORMAT, TOKEN_FORMAT, FORMAT):
        raise ValueError(f"format {number}")
    if number == FIRST_FORMAT and "token" in fields:
        raise ValueError(f"format {FIRST_FORMAT} has no token")
    host, port, suite = fields["broker"]["host"], fields["broker"]["port"], fields["suite"]
    if not (isinstance(host, str) and host and type(port) is int and 0 < port < 65536):
        raise ValueError("broker")
    if type(suite) is not int or suite not in SUITES:
        raise ValueError(f"suite {suite}")
    made = Enrolment(
        fleet=checked_name(fields["fleet"], "fleet"),
        device=checked_name(fields["device"], "device"),
        host=host,
        port=port,
        artifact=b"",
        gateway=b"",
        suite=suite,
        sealing=b"",
        tls=_tls(fields["tls"], number),
        token=fields.get("token"),
    )
    made = _with_record(made, fields) if number == FORMAT else _with_keys(made, fields)
    check_access(made)
    return made


def _with_record(made: Enrolment, fields: Mapping[str, Any]) -> Enrolment:
    join = fields.get("join")
    rooted = replace(made, root=check_public(_raw(fields["root"])), join=None if join is None else _raw(join))
    return with_record(rooted, _raw(fields["record"]))


def _with_keys(made: Enrolment, fields: Mapping[str, Any]) -> Enrolment:
    artifact, gateway, sealing = bytes.fromhex(fields["artifact"]), _raw(fields["gateway"]), _raw(fields["sealing"])
    if len(artifact) != 32:
        raise ValueError("artifact")
    if algorithm_of(check_public(gateway)) != EDDSA:
        raise ValueError("gateway")
    sealing_public(made.suite, sealing)
    return replace(made, artifact=artifact, gateway=gateway, sealing=sealing)


def _tls(fields: Mapping[str, Any] | None, number: int) -> Tls | None:
    if fields is None:
        return None
    ca, certificate, key = fields["ca"], fields["certificate"], fields["key"]
    if certificate is None and key is None and number != FIRST_FORMAT:
        return Tls(str(ca))
    if certificate is not None and key is None and number == FORMAT:
        return Tls(str(ca), str(certificate))
    if certificate is None or key is None:
        raise ValueError("tls without certificate or key")
    return Tls(str(ca), str(certificate), str(key))


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()


def _raw(text: str) -> bytes:
    return b64decode(text, validate=True)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
