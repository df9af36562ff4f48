"""The gateway's folder: keys, fleet record, the ways to enrol, rotation, revocation."""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tasuki.aggregator import certificates, fleet, gateway_keys, rotation
from tasuki.aggregator.ledger import Ledger
from tasuki.sdk import certificate_request, enrolment, envelope, fleet_record, keys, sealing
from tasuki.sdk.enrolment import Enrolment
from tasuki.sdk.envelope import HYBRID, SUITES, X25519
from tasuki.sdk.errors import InputError, KeyInvalid, Refusal, Refused, StateCorrupt, StateMismatch
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.signing import ES256, Signer, Software

ROOT = keys.make_signing()
DEVICE = keys.make_signing()
PASSWORD = b"correct horse"


def make(folder: Path, artifact: Path, name: str = "oak", **more: object) -> Path:
    held_out = folder / f"{name}.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(folder / name, name, artifact, held_out, **{"root": ROOT, **more})  # type: ignore[arg-type]
    return folder / name


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path) -> Path:
    return make(tmp_path_factory.mktemp("fresh"), tiny_artifact, host="localhost", port=8883, tls=True)


@pytest.fixture
def folder(fresh: Path, tmp_path: Path) -> Path:
    """A fleet with TLS."""
    shutil.copytree(fresh, tmp_path / "oak")
    return tmp_path / "oak"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    made = Ledger(folder / "ledger.db")
    yield made
    made.close()


def step(folder: Path, name: str, root: Signer = ROOT) -> Record:
    return rotation.install(folder, fleet_record.issue(rotation.draft(folder, name), root))


def device_of(made: Enrolment) -> Record:
    """What a device that was just enrolled knows."""
    record = enrolment.record_of(made)
    assert record is not None
    return record


def follow(folder: Path, known: Record) -> Record:
    wire = fleet.load_keys(folder).wire
    assert wire is not None
    return fleet_record.advance(wire, ROOT.public, known, known.issued)[0]


# --- init -------------------------------------------------------------------------------------------------------------


def test_the_root_key_is_not_kept(folder: Path) -> None:
    assert fleet.load(folder).root == ROOT.public.hex()
    secret = ROOT.key.private_bytes_raw()  # type: ignore[union-attr]
    pem = keys.plain_pem(ROOT).splitlines()[1].encode()
    for path in folder.rglob("*"):
        assert path.is_dir() or not (secret in path.read_bytes() or pem in path.read_bytes()), path
    assert not (folder / "root").exists()


def test_without_a_root_key_one_is_made_apart(tmp_path: Path, tiny_artifact: Path) -> None:
    made = make(tmp_path, tiny_artifact, root=None)
    own = keys.load_signing(made / "root" / "root.pem")
    assert fleet.load(made).root == own.public.hex()
    assert own.public == keys.public_key((made / "root" / "root.pub").read_text())
    assert (made / "root" / "root.pem").stat().st_mode & 0o777 == 0o600
    shutil.move(made / "root", tmp_path / "safe")
    assert fleet.load_keys(made).record is not None, "the gateway does not need it"


def test_the_record_names_what_the_gateway_has(folder: Path) -> None:
    held = fleet.load_keys(folder)
    assert held.record is not None
    assert held.record.version == 1
    assert held.record.signing == held.signer.public
    assert dict(held.record.sealing) == held.public
    assert held.record.artifacts == (hashlib.sha256((folder / "artifact.tflite").read_bytes()).digest(),)
    assert (held.others, held.record.max_norm, held.record.adapter) == ((), fleet.Limits().max_norm, "head")
    for suite, raw in held.public.items():
        sealed = SUITES[suite].encrypt(b"x", sealing.sealing_public(suite, raw), info=b"")
        assert SUITES[suite].decrypt(sealed, held.sealing[suite], info=b"") == b"x"


def test_the_record_can_end(tmp_path: Path, tiny_artifact: Path) -> None:
    record = fleet.load_keys(make(tmp_path, tiny_artifact, valid_days=3, adapter="low_rank")).record
    assert record is not None
    assert (record.expires - record.issued, record.adapter) == (3 * 24 * 3600, "low_rank")


def test_keys_are_encrypted_but_for_those_that_tls_reads(tmp_path: Path, tiny_artifact: Path) -> None:
    made = make(tmp_path, tiny_artifact, tls=True, password=lambda: PASSWORD, root=None)
    plain = {p.name for p in made.rglob("*") if p.suffix in (".pem", ".key") and b"ENCRYPTED" not in p.read_bytes()}
    assert plain == {"broker.key", "gateway.key"}
    for call in (
        lambda word: fleet.load_keys(made, word),
        lambda word: fleet.enrol(made, "kitchen", DEVICE.public, password=word),
        lambda word: fleet.revoke(made, "kitchen", word),
    ):
        with pytest.raises(KeyInvalid, match="encrypted"):
            call(lambda: None)
        with pytest.raises(KeyInvalid, match="password"):
            call(lambda: b"wrong")
        call(lambda: PASSWORD)


def test_what_is_secret_is_its_owners_whatever_the_umask(tmp_path: Path, tiny_artifact: Path) -> None:
    before = os.umask(0)
    try:
        made = make(tmp_path, tiny_artifact, tls=True, root=None)
        step(made, rotation.ANNOUNCE, keys.load_signing(made / "root" / "root.pem"))
        ledger = Ledger(made / "ledger.db")
        ledger.enrol("kitchen", DEVICE.public)
        open_to_others = {path.name for path in made.rglob("*") if path.stat().st_mode & 0o077}
        ledger.close()
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o700
    public = {"artifact.tflite", "held-out.jsonl", "root.pub", "ca.crt", "broker.crt", "gateway.crt", "mosquitto.conf"}
    assert open_to_others == public


def test_a_folder_of_the_first_format_still_works(folder: Path) -> None:
    """As the first version made it: no root, no record, nothing noted of certificates."""
    path = folder / "gateway.json"
    fields = json.loads(path.read_text())
    del fields["root"]
    path.write_text(json.dumps({**fields, "format": 1}))
    (folder / "record.cbor").unlink()
    (folder / "tls" / "issued.jsonl").unlink()
    held = fleet.load_keys(folder)
    assert (held.record, held.wire, held.others) == (None, None, ())
    made = fleet.enrol(folder, "kitchen", DEVICE.public)
    assert (made.root, made.gateway) == (None, held.signer.public)
    assert enrolment.decode(enrolment.encode(made)) == made
    for call in (
        lambda: rotation.draft(folder, rotation.ANNOUNCE),
        lambda: fleet.enrol(folder, "attic", None, valid_seconds=60),
    ):
        with pytest.raises((KeyInvalid, InputError), match="record"):
            call()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"format": 3}', b"[]", b'{"format": 2, "fleet": "oak", "root": "00"}'], ids=str
)
def test_damaged_settings_are_named(folder: Path, content: bytes) -> None:
    (folder / "gateway.json").write_bytes(content)
    with pytest.raises(StateCorrupt, match=r"gateway\.json"):
        fleet.load(folder)


def test_a_damaged_or_foreign_record_is_named(folder: Path) -> None:
    path = folder / "record.cbor"
    good = path.read_bytes()
    stranger = fleet_record.announce(
        fleet_record.issue(device_of(fleet.enrol(folder, "kitchen", DEVICE.public)), DEVICE), DEVICE
    )
    for content in (b"", good[:-1], good + b"x", stranger):
        path.write_bytes(content)
        with pytest.raises(StateCorrupt, match=r"record\.cbor"):
            fleet.load_keys(folder)
    path.unlink()
    with pytest.raises(StateCorrupt, match=r"record\.cbor"):
        fleet.load_keys(folder)
    path.write_bytes(good)
    keys.save(folder / "keys" / "signing.pem", DEVICE.key)
    with pytest.raises(StateMismatch, match="keys"):
        fleet.load_keys(folder)


# --- enrol ------------------------------------------------------------------------------------------------------------


def test_an_enrolment_by_key(folder: Path, ledger: Ledger) -> None:
    made = fleet.enrol(folder, "kitchen", DEVICE.public)
    assert enrolment.decode(enrolment.encode(made)) == made
    enrolment.check_root(made, ROOT.public)
    assert ledger.key_of("kitchen") == DEVICE.public
    assert fleet.enrol(folder, "shed", keys.make_signing(ES256).public).device == "shed"


def test_a_request_gets_a_certificate_for_its_own_key(folder: Path, ledger: Ledger) -> None:
    for name, signer in (("kitchen", DEVICE), ("attic", keys.make_signing(ES256))):
        made = fleet.enrol(folder, name, None, request=certificate_request.make(name, signer))
        assert made.tls is not None
        assert made.tls.certificate is not None
        assert made.tls.key is None, "the key stays where it is"
        assert enrolment.decode(enrolment.encode(made)) == made
        certificate = x509.load_pem_x509_certificate(made.tls.certificate.encode())
        authority = x509.load_pem_x509_certificate(made.tls.ca.encode())
        certificate.verify_directly_issued_by(authority)
        assert certificate.public_key() == signer.key.public_key()
        assert certificate.subject.rfc4514_string() == f"CN={name}"
        assert ledger.key_of(name) == signer.public


def csr(names: list[x509.NameAttribute], key: Ed25519PrivateKey | None = None) -> bytes:
    signer = key or DEVICE.key
    assert isinstance(signer, Ed25519PrivateKey)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(signer, None).public_bytes(Encoding.PEM)


def test_what_a_request_may_not_be(folder: Path, ledger: Ledger) -> None:
    name = x509.NameAttribute(NameOID.COMMON_NAME, "kitchen")
    other_curve = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([name]))
        .sign(generate_private_key(SECP384R1()), SHA256())
        .public_bytes(Encoding.PEM)
    )
    good = x509.load_pem_x509_csr(certificate_request.make("kitchen", DEVICE))
    der = bytearray(good.public_bytes(Encoding.DER))
    der[-1] ^= 1
    try:
        forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    except ValueError:
        pytest.fail("the altered signature has to parse")
    for request in (
        b"", good.public_bytes(Encoding.PEM) + b"\n" * certificates.MAX_REQUEST,
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
        certificate_request.make("attic", DEVICE), csr([name, name]), csr([]),
        csr([name, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "oak")]), other_curve, forged,
    ):  # fmt: skip
        with pytest.raises(KeyInvalid):
            fleet.enrol(folder, "kitchen", None, request=request)
    assert ledger.key_of("kitchen") is None, "the name was not spent"
    with pytest.raises(InputError):
        certificate_request.make("Kitchen/+", DEVICE)


def test_a_one_time_token_is_good_once_and_for_its_time(folder: Path, ledger: Ledger) -> None:
    made = fleet.enrol(folder, "kitchen", None, valid_seconds=60)
    assert made.join is not None
    assert enrolment.decode(enrolment.encode(made)) == made
    assert made.join not in (folder / "ledger.db").read_bytes(), "only its hash is kept"
    assert made.join.hex() not in repr(made)
    digest = hashlib.sha256(made.join).digest()
    assert ledger.key_of("kitchen") is None
    assert not ledger.use_token("kitchen", hashlib.sha256(b"guess").digest(), DEVICE.public, 0.0)
    assert not ledger.use_token("kitchen", digest, DEVICE.public, 1e12), "too late"
    assert ledger.use_token("kitchen", digest, DEVICE.public, 0.0)
    thief = keys.make_signing().public
    assert not ledger.use_token("kitchen", digest, thief, 0.0), "it is used up"
    assert ledger.key_of("kitchen") == DEVICE.public
    with pytest.raises(InputError, match="enrolled already"):
        fleet.enrol(folder, "kitchen", None, valid_seconds=60)


def test_exactly_one_way_to_enrol(folder: Path) -> None:
    request = certificate_request.make("kitchen", DEVICE)
    for more in ({}, {"key": DEVICE.public, "request": request}, {"request": request, "valid_seconds": 1.0}):
        with pytest.raises(InputError, match="one of"):
            fleet.enrol(folder, "kitchen", **{"key": None, **more})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="token"):
        fleet.enrol(folder, "kitchen", None, request=request, token="open sesame")


def test_a_request_is_for_a_fleet_with_tls(tmp_path: Path, tiny_artifact: Path) -> None:
    with pytest.raises(InputError, match="--tls"):
        fleet.enrol(make(tmp_path, tiny_artifact), "kitchen", None, request=certificate_request.make("kitchen", DEVICE))


# --- revoke -----------------------------------------------------------------------------------------------------------


def test_a_revoked_device_is_never_believed_again(folder: Path, ledger: Ledger) -> None:
    made = fleet.enrol(folder, "kitchen", DEVICE.public)
    fleet.enrol(folder, "kitchen", DEVICE.public)
    fleet.enrol(folder, "attic", keys.make_signing().public)
    assert made.tls is not None
    assert made.tls.certificate is not None
    serial = x509.load_pem_x509_certificate(made.tls.certificate.encode()).serial_number
    path = folder / "tls" / "revoked.crl"
    authority = x509.load_pem_x509_certificate(made.tls.ca.encode())
    before = x509.load_pem_x509_crl(path.read_bytes())
    assert len(list(before)) == 0
    assert fleet.revoke(folder, "kitchen") == 2, "both certificates that it was given"
    after = x509.load_pem_x509_crl(path.read_bytes())
    assert after.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    assert after.issuer == authority.subject
    assert after.next_update_utc == authority.not_valid_after_utc
    assert after.get_revoked_certificate_by_serial_number(serial) is not None
    assert ledger.revoked("kitchen")
    assert not ledger.revoked("attic")
    for key in (DEVICE.public, keys.make_signing().public):
        with pytest.raises(InputError, match="revoked"):
            fleet.enrol(folder, "kitchen", key)
    assert fleet.revoke(folder, "kitchen") == 2, "again changes nothing"
    with pytest.raises(InputError, match="no device"):
        fleet.revoke(folder, "cellar")


def test_a_token_that_was_not_used_yet_is_revoked_with_its_device(folder: Path, ledger: Ledger) -> None:
    made = fleet.enrol(folder, "kitchen", None, valid_seconds=60)
    assert fleet.revoke(folder, "kitchen") == 1
    assert not ledger.use_token("kitchen", hashlib.sha256(made.join or b"").digest(), DEVICE.public, 0.0)
    with pytest.raises(InputError, match="revoked"):
        fleet.enrol(folder, "kitchen", None, valid_seconds=60)


# --- rotate -----------------------------------------------------------------------------------------------------------


def test_a_rotation_in_two_steps(folder: Path) -> None:
    known = device_of(fleet.enrol(folder, "kitchen", DEVICE.public))
    first = fleet.load_keys(folder)
    announced = step(folder, rotation.ANNOUNCE)
    between = fleet.load_keys(folder)
    assert between.signer.public == first.signer.public, "the former key is used until the end"
    assert announced.next_signing is not None
    assert opens(between, first.public)
    assert opens(between, announced.next_sealing), "a device may be ahead"
    halfway = follow(folder, known)
    assert halfway == announced
    finished = step(folder, rotation.FINISH)
    after = fleet.load_keys(folder)
    assert after.signer.public == announced.next_signing == finished.signing
    assert after.public == announced.next_sealing
    assert opens(after, first.public), "what was sealed before still opens"
    assert follow(folder, halfway) == follow(folder, known) == finished, "also for a device that heard of neither"
    assert follow(folder, finished) == finished
    assert device_of(fleet.enrol(folder, "attic", keys.make_signing().public)) == finished


def opens(held: gateway_keys.GatewayKeys, public: object) -> bool:
    assert isinstance(public, dict)
    for suite, raw in public.items():
        context = envelope.Context("oak", "kitchen", "up", bytes(32), 1, 1, suite)
        sealed = SUITES[suite].encrypt(b"x", sealing.sealing_public(suite, raw), info=context.encode())
        found = 0
        for ring in held.rings:
            try:
                found += envelope.decrypt(sealed, context, ring[suite]) == b"x"
            except Refused:
                continue
        if found != 1:
            return False
    return True


def test_former_keys_are_deleted_at_the_next_announcement(folder: Path) -> None:
    known = device_of(fleet.enrol(folder, "kitchen", DEVICE.public))
    first = fleet.load_keys(folder).public
    for _ in range(2):
        step(folder, rotation.ANNOUNCE)
        step(folder, rotation.FINISH)
    assert not opens(fleet.load_keys(folder), first)
    assert not (folder / "keys" / "signing.pem").exists()
    step(folder, rotation.ANNOUNCE)
    assert sorted(path.name for path in (folder / "keys").iterdir()) == ["3", "4"]
    assert follow(folder, known).version == 6


def test_steps_out_of_order_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="announced"):
        rotation.draft(folder, rotation.FINISH)
    step(folder, rotation.ANNOUNCE)
    with pytest.raises(InputError, match="already"):
        rotation.draft(folder, rotation.ANNOUNCE)


def test_an_offline_root_signs_what_it_was_shown(folder: Path) -> None:
    made = rotation.draft(folder, rotation.ANNOUNCE)
    request = fleet_record.encode(made)
    assert fleet.load_keys(folder).record != made, "nothing changes before it is signed"
    assert rotation.draft(folder, rotation.ANNOUNCE).next_signing == made.next_signing, "asked again: the same keys"
    message = fleet_record.issue(fleet_record.decode(request), ROOT)
    assert rotation.install(folder, message) == made
    assert rotation.install(folder, message) == made, "again changes nothing"


def test_what_may_not_be_installed(folder: Path) -> None:
    made = rotation.draft(folder, rotation.ANNOUNCE)
    before = (folder / "record.cbor").read_bytes()
    with pytest.raises(Refused, match="bad signature"):
        rotation.install(folder, fleet_record.issue(made, DEVICE))
    with pytest.raises(Refused, match="malformed"):
        rotation.install(folder, b"no record")
    unknown = Record(**{**made.__dict__, "next_signing": DEVICE.public})
    with pytest.raises(StateMismatch):
        rotation.install(folder, fleet_record.issue(unknown, ROOT))
    expired = Record(**{**made.__dict__, "expires": 1})
    with pytest.raises(Refused, match="expired"):
        rotation.install(folder, fleet_record.issue(expired, ROOT))
    jump = Record(**{**made.__dict__, "signing": made.next_signing, "sealing": made.next_sealing,
                     "next_signing": None, "next_sealing": {}})  # fmt: skip
    with pytest.raises(Refused) as caught:
        rotation.install(folder, fleet_record.issue(jump, ROOT))
    assert caught.value.reason in (Refusal.UNANNOUNCED_KEY, Refusal.BAD_SIGNATURE)
    assert (folder / "record.cbor").read_bytes() == before


def test_a_record_is_renewed_without_other_keys(folder: Path) -> None:
    known = device_of(fleet.enrol(folder, "kitchen", DEVICE.public))
    made = rotation.draft(folder, rotation.RENEW, valid_days=30)
    assert (made.version, made.expires - made.issued, made.signing) == (2, 30 * 24 * 3600, known.signing)
    rotation.install(folder, fleet_record.issue(made, ROOT))
    assert follow(folder, known) == made


def test_a_cut_while_keys_are_made_or_deleted_leaves_a_folder_that_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (rotation.ANNOUNCE, rotation.FINISH) * 2:
        step(folder, name)
    seen = 0
    for name in ("write_private", "rename", "rmtree"):
        for after in itertools.count():
            work = folder.parent / f"{name}-{after}"
            shutil.copytree(folder, work)
            with monkeypatch.context() as patch:
                cut(patch, name, after)
                try:
                    step(work, rotation.ANNOUNCE)
                except OSError:
                    seen += 1
                else:
                    break
            held = fleet.load_keys(work)
            assert held.record is not None
            if held.record.next_signing is None:
                step(work, rotation.ANNOUNCE)
            assert step(work, rotation.FINISH).version == 7
    assert seen > 8


def cut(patch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """Let the call number `after` of this kind fail before it does anything."""
    left = [after]

    def counted(real: object) -> object:
        def call(*words: object, **more: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise OSError("power")
            return real(*words, **more)  # type: ignore[operator]

        return call

    if name == "write_private":
        patch.setattr(keys, name, counted(keys.write_private))
    elif name == "rename":
        patch.setattr(Path, name, counted(Path.rename))
    else:
        patch.setattr(shutil, name, counted(shutil.rmtree))


def test_a_signing_key_may_live_elsewhere(tmp_path: Path, tiny_artifact: Path) -> None:
    own = Software(generate_private_key(SECP256R1()))
    keys.save(tmp_path / "element.pem", own.key)
    made = make(tmp_path, tiny_artifact, signer=str(tmp_path / "element.pem"))
    assert fleet.load_keys(made).signer.public == own.public
    assert not (made / "keys" / "signing.pem").exists()
    known = device_of(fleet.enrol(made, "kitchen", DEVICE.public, X25519))
    step(made, rotation.ANNOUNCE)
    assert follow(made, known).next_signing == fleet_next(made)
    assert HYBRID in step(made, rotation.FINISH).sealing


def fleet_next(folder: Path) -> bytes:
    return keys.load_signing(folder / "keys" / "2" / "signing.pem").public
