"""What reads bytes that came from outside: the functions whose coverage counts. What only writes is left out."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Names by file; all functions of a file where there are none.
READERS = {
    file: tuple(names.split())
    for file, names in {
        "sdk/cbor.py": "decode _guard",
        "sdk/cose.py": "parse verify verify_any _header _ascii",
        "sdk/signing.py": "verify",
        "sdk/envelope.py": "check_tags authenticate decrypt",
        "sdk/session.py": "reaches decrypt _key",
        "sdk/update.py": "decode",
        "sdk/codec.py": "unpack",
        "sdk/compression.py": "decompress _read _decode",
        "sdk/lattice.py": "unpack _order _parts",
        "sdk/entropy.py": "unpack",
        "sdk/quantise.py": "scale",
        "sdk/sparsity.py": "draw",
        "sdk/fleet_table.py": "FleetTable.check_kind FleetTable.check_shape",
        "sdk/transfer.py": "read check missing join indexes",
        "sdk/offer.py": "read",
        "sdk/receipt.py": "accept",
        "sdk/downlink.py": "accept read_content",
        "sdk/fleet_record.py": "decode verify accept advance _step _signed_by _forward _fresh _links _parsed _check",
        "sdk/join.py": "read _artifact _payload",
        "sdk/topics.py": "read _device _number",
        "sdk/exchange.py": "Exchange.receive Exchange._receipt Exchange._announcement Exchange._part"
        " Exchange._record_comes",
        "aggregator/admission.py": "",
        "aggregator/rules.py": "Rules.take Rules._take_offer Rules.take_part Rules._whole Rules.take_join"
        " Rules._settle",
    }.items()
}


def check() -> None:
    """Raises LookupError where a reader has another name by now."""
    for file, wanted in READERS.items():
        body = ast.parse((ROOT / file).read_text()).body
        there = {one.name for one in body if isinstance(one, ast.FunctionDef)}
        for one in body:
            if isinstance(one, ast.ClassDef):
                there |= {f"{one.name}.{inner.name}" for inner in one.body if isinstance(inner, ast.FunctionDef)}
        lost = set(wanted) - there
        if lost:
            raise LookupError(f"{file} has no {', '.join(sorted(lost))}; say in fuzz_readers.py what reads there")
