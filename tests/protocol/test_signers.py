"""Where private keys live: files, encrypted or not, and whatever a plug-in brings."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from trust_kit import P256, ROOT, key

from tasuki.sdk import keys, signing
from tasuki.sdk.envelope import SUITES
from tasuki.sdk.errors import InputError, KeyInvalid
from tasuki.sdk.signing import EDDSA, ES256, Software

PASSWORD = b"correct horse"
EXAMPLE = Path(__file__).parents[2] / "examples" / "pkcs11_signer.py"
PLUGIN = """
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tasuki.sdk.signing import Software, EDDSA, ES256

def good(reference):
    return Software(Ed25519PrivateKey.from_private_bytes(reference.encode().ljust(32)[:32]))

class Liar:
    algorithm, public = EDDSA, good("one").public
    sign = staticmethod(good("another").sign)

class Mixed:
    algorithm, public = ES256, good("one").public
    sign = staticmethod(good("one").sign)

liar, mixed = lambda reference: Liar(), lambda reference: Mixed()

def absent(reference):
    raise RuntimeError("no token in the slot")
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with signers, as `pip` leaves it."""
    (tmp_path / "element.py").write_text(PLUGIN)
    for package, names in (("element", ("good", "liar", "mixed", "absent")), ("double", ("twice",))):
        for version in range(1, 3 if package == "double" else 2):
            info = tmp_path / f"{package}{version}-1.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}{version}\nVersion: 1\n")
            lines = [f"{name} = element:{name if package == 'element' else 'good'}" for name in names]
            (info / "entry_points.txt").write_text("\n".join(["[tasuki.signers]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("algorithm", [EDDSA, ES256])
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_key_survives_the_disk(algorithm: int, password: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    made = keys.signing_key(path, lambda: password, algorithm)
    assert made.algorithm == algorithm
    assert path.stat().st_mode & 0o777 == 0o600
    again = keys.signing_key(path, lambda: password)
    assert again.public == made.public
    assert signing.verify(made.public, again.sign(b"x"), b"x")
    load_pem_private_key(path.read_bytes(), password)
    assert (b"ENCRYPTED" in path.read_bytes()) == (password is not None)


def test_a_password_is_asked_for_only_where_a_key_is_encrypted(tmp_path: Path) -> None:
    keys.save(tmp_path / "plain.pem", ROOT.key)
    keys.save(tmp_path / "locked.pem", ROOT.key, PASSWORD)
    keys.make_sealing(tmp_path, PASSWORD)

    def never() -> bytes:
        raise AssertionError("asked")

    assert keys.load_signing(tmp_path / "plain.pem", never).public == ROOT.public
    with pytest.raises(KeyInvalid, match="TASUKI_KEY_PASSWORD"):
        keys.load_signing(tmp_path / "locked.pem", lambda: None)
    with pytest.raises(KeyInvalid, match=r"locked\.pem can't be opened with this password") as caught:
        keys.load_signing(tmp_path / "locked.pem", lambda: b"guess")
    assert "guess" not in str(caught.value)
    assert set(keys.load_sealing(tmp_path, lambda: PASSWORD)) == set(SUITES)
    assert keys.sealing_public_bytes(tmp_path, lambda: PASSWORD)
    with pytest.raises(KeyInvalid):
        keys.load_sealing(tmp_path, lambda: b"guess")


def test_the_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASUKI_KEY_PASSWORD", raising=False)
    assert keys.password_of(None)() is None
    monkeypatch.setenv("TASUKI_KEY_PASSWORD", "from the environment")
    assert keys.password_of(None)() == b"from the environment"
    keys.save(tmp_path / "locked.pem", ROOT.key, b"from the environment")
    assert keys.load_signing(tmp_path / "locked.pem").public == ROOT.public
    file = tmp_path / "password.txt"
    for content, word in (
        (b"word\n", b"word"),
        (b"w\xc3\xbcrd \r\nmore\n", b"w\xc3\xbcrd "),
        (b"x" * 1024, b"x" * 1024),
    ):
        file.write_bytes(content)
        assert keys.password_of(file)() == word
    for content in (b"", b"\n", b"x" * 1025):
        file.write_bytes(content)
        with pytest.raises(KeyInvalid, match=r"password\.txt"):
            keys.password_of(file)()
    with pytest.raises(KeyInvalid, match="can't be read"):
        keys.password_of(tmp_path / "none.txt")()


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(InputError, match="-47"):
        keys.make_signing(-47)


def test_only_ed25519_signs_artifacts(tmp_path: Path) -> None:
    keys.save(tmp_path / "root.pem", ROOT.key)
    keys.save(tmp_path / "p256.pem", P256.key)
    assert isinstance(keys.load_artifact_key(tmp_path / "root.pem"), Ed25519PrivateKey)
    with pytest.raises(KeyInvalid, match="Ed25519"):
        keys.load_artifact_key(tmp_path / "p256.pem")


@pytest.mark.parametrize("signer", [ROOT, P256], ids=["EdDSA", "ES256"])
def test_a_public_key_is_hex_or_pem(signer: Software) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    assert keys.public_key(signer.public.hex()) == signer.public
    pem = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert keys.public_key(pem.decode()) == signer.public


@pytest.mark.parametrize("text", ["", "xyz", "00", "ff" * 33, "-----BEGIN PUBLIC KEY-----", "00" * 1216])
def test_what_is_no_public_key_is_named(text: str) -> None:
    with pytest.raises(KeyInvalid):
        keys.public_key(text)


@given(st.text(max_size=200))
def test_any_text_is_a_public_key_or_named(text: str) -> None:
    with contextlib.suppress(KeyInvalid):
        signing.check_public(keys.public_key(text))


def test_a_key_for_tls_leaves_only_where_it_can() -> None:
    assert isinstance(load_pem_private_key(keys.plain_pem(ROOT).encode(), None), Ed25519PrivateKey)

    class Elsewhere:
        algorithm, public = EDDSA, ROOT.public

        def sign(self, data: bytes) -> bytes:
            return ROOT.sign(data)

    with pytest.raises(KeyInvalid, match="does not leave"):
        keys.plain_pem(Elsewhere())


@pytest.mark.usefixtures("plugins")
def test_a_plug_in_opens_its_references() -> None:
    made = keys.open_signer("good:slot 3")
    assert made.public == Software(Ed25519PrivateKey.from_private_bytes(b"good:slot 3".ljust(32))).public


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("reference", "says"),
    [("liar:", "does not verify"), ("mixed:", "does not verify"), ("absent:7", "no token in the slot"),
     ("twice:", "more than one"), ("tpm:0x81", "nothing here opens keys of tpm")],
)  # fmt: skip
def test_a_plug_in_that_can_not_be_used_is_named(reference: str, says: str) -> None:
    with pytest.raises(KeyInvalid, match=says):
        keys.open_signer(reference)


def test_a_path_is_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("root.pem", "odd:name.pem"):
        keys.save(tmp_path / name, key(name).key)
        assert keys.open_signer(name).public == key(name).public
    assert keys.open_signer(str(tmp_path / "root.pem")).public == key("root.pem").public
    with pytest.raises(KeyInvalid, match="can't be read"):
        keys.open_signer(str(tmp_path / "none.pem"))


@pytest.mark.slow
def test_the_example_signs_with_a_key_in_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SoftHSM: a PKCS #11 module whose keys only its own process sees. Needs Debian's softhsm2."""
    tool = shutil.which("softhsm2-util")
    assert tool, "SoftHSM is missing: apt-get install softhsm2"
    (tmp_path / "tokens").mkdir()
    settings = tmp_path / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    environment = {
        **os.environ, "SOFTHSM2_CONF": str(settings), "PKCS11_PIN": "1234",
        "PKCS11_MODULE": "/usr/lib/softhsm/libsofthsm2.so",
    }  # fmt: skip
    init = [tool, "--init-token", "--free", "--label", "hsm", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(init, check=True, capture_output=True, env=environment)
    info = tmp_path / "pkcs11_signer-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pkcs11-signer\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tasuki.signers]\npkcs11 = pkcs11_signer:open_token\n")
    shutil.copy(EXAMPLE, tmp_path / "pkcs11_signer.py")
    script = """
import pkcs11, os
from pkcs11.util.ec import encode_named_curve_parameters
token = pkcs11.lib(os.environ["PKCS11_MODULE"]).get_token(token_label="hsm")
with token.open(user_pin="1234", rw=True) as session:
    curve = encode_named_curve_parameters("secp256r1")
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
    parameters.generate_keypair(store=True, label="gateway")
from tasuki.sdk import fleet_record, keys, signing
from trust_kit import FLEET, NOW, record
signer = keys.open_signer("pkcs11:hsm/gateway")
for _ in range(20):
    signature = signing.low_s(signer.algorithm, signer.sign(b"x"))
    assert signing.verify(signer.public, signature, b"x")
    assert not signing.verify(signer.public, signature, b"y")
    message = fleet_record.issue(record(), signer)
    assert fleet_record.accept(message, signer.public, FLEET, NOW) == record()
try:
    keys.open_signer("pkcs11:hsm/absent")
except keys.KeyInvalid as error:
    print("named:", error)
"""
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True, text=True, check=False, env={**environment, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "named: the key pkcs11:hsm/absent can't be opened" in done.stdout
