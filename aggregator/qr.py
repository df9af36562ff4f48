"""An enrolment as a QR code (ISO/IEC 18004), to be photographed by the device or whoever sets it up. `segno` draws."""

import io
from pathlib import Path
from typing import Final

from tasuki.sdk import enrolment, keys
from tasuki.sdk.enrolment import Enrolment
from tasuki.sdk.errors import InputError, MissingExtra, StateUnwritable

# Version 40 with error correction L, in alphanumeric mode.
MAX_CHARACTERS: Final = 4296
_KINDS: Final = ("png", "svg")
_SCALE: Final = 4


def write(path: Path, made: Enrolment) -> int:
    """Write `path` (.png or .svg) with mode 0600; how many of `MAX_CHARACTERS` it takes.

    Raises InputError if it does not fit or the suffix is another, MissingExtra, StateUnwritable.
    """
    try:
        import segno
    except ModuleNotFoundError:
        raise MissingExtra("a QR code needs segno: pip install 'tasuki[aggregator]'") from None
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _KINDS:
        raise InputError(f"{path} is neither .png nor .svg")
    text = enrolment.encode_text(made)
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"the enrolment has {len(text)} characters, and a QR code takes {MAX_CHARACTERS}: carry the file, or let"
            " the broker know the device by a token (--token-file) instead of a certificate"
        )
    code = segno.make_qr(text, mode="alphanumeric", error="l", boost_error=False)
    picture = io.BytesIO()
    code.save(picture, kind=kind, scale=_SCALE)
    try:
        keys.write_private(path, picture.getvalue())
    except OSError as error:
        raise StateUnwritable(f"{path} can't be written: {error.strerror}") from None
    return len(text)
