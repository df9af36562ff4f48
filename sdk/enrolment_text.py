"""An enrolment as a line of text for a QR code: ``TASUKI:`` and then base45 (RFC 9285) of the deflated file.

Base45 has only characters of the QR code's alphanumeric mode (ISO/IEC 18004), which takes 5.5 bits a character.
"""

import zlib
from typing import Final

import base45

PREFIX: Final = b"TASUKI:"


def encode(file: bytes) -> str:
    """The text of an enrolment file's bytes."""
    return (PREFIX + bytes(base45.b45encode(zlib.compress(file, 9)))).decode()


def decode(text: bytes, bound: int) -> bytes:
    """The enrolment file in `text`; never more than `bound` bytes are inflated. Raises ValueError."""
    words = text.rstrip(b"\r\n")  # a space is a digit of base45
    if not words.startswith(PREFIX):
        raise ValueError("no enrolment text")
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(base45.b45decode(words[len(PREFIX) :]), bound + 1)
    except zlib.error as error:
        raise ValueError(f"enrolment text: {error}") from None
    if len(found) > bound or not stream.eof or stream.unused_data:
        raise ValueError("the enrolment text is cut, or goes on")
    return found
