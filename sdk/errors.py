"""Every exception that Tasuki raises on purpose. The tree is closed: catch `TasukiError` and you have them all.

    TasukiError
    ├── InputError                what the caller passed
    │   ├── EmptyText
    │   ├── TextTooLong
    │   ├── UnknownLabel
    │   └── WrongTask             a classifier is asked to write, or a causal model for a label
    ├── ArtifactError             the `.tflite` file
    │   ├── ArtifactMissing
    │   ├── ArtifactForeign       not one of ours
    │   ├── ArtifactCorrupt       truncated or altered
    │   ├── ArtifactUnsigned      a signature is wanted, and there is none
    │   └── ArtifactForged        the signature is not by the trusted key
    ├── StateError                the state directory of a device or a gateway
    │   ├── StateLocked           another process has it
    │   ├── StateCorrupt
    │   ├── StateNewer            written by a newer version
    │   ├── StateMismatch         belongs to another artifact or fleet
    │   └── StateUnwritable       disk full, read-only, no permission
    ├── KeyInvalid                a key or enrolment file that can't be used
    ├── NotEnrolled
    ├── LinkError
    │   ├── BrokerUnreachable
    │   ├── Unauthorised          the broker does not let this device in
    │   ├── SyncTimeout           reached the broker, but the gateway did not answer
    │   └── SyncCancelled         the caller stopped it
    ├── Refused                   a message that was not accepted; `reason` says why
    ├── SourceUnavailable         a package with a model or texts that can't be had
    ├── ConversionError           a student that can't become a full-int8 artifact
    │   ├── CheckpointMissing     a published model, or a file of it, that is not there
    │   ├── CheckpointCorrupt     truncated, contradictory, or not finite
    │   ├── CheckpointUnsupported a family, field or format that this version doesn't convert
    │   ├── HeadMismatch          labels and classifier head that do not belong together, or no head at all
    │   ├── TextsInvalid          a file of texts that can't be used
    │   └── BudgetTooSmall        no student of the tables fits
    ├── FirmwareError             a model that can't become firmware, or a board that can't be used
    │   ├── ModelCorrupt          a flatbuffer that is truncated or contradicts itself
    │   ├── ModelUnsupported      an operator, type or shape that the compiler doesn't have
    │   ├── ModelTooLarge         more flash or memory than the board has
    │   ├── ToolMissing           a compiler, emulator or programmer that is not installed
    │   ├── BuildFailed           the compiler or linker gave up
    │   └── BoardSilent           the board does not answer, or not as it should
    ├── MissingExtra              this room's packages are not installed
    └── NotAvailable              not in this version

`exit_code` is what the command `tasuki` exits with (the numbers of BSD's sysexits.h).
"""

from enum import IntEnum
from typing import ClassVar


class TasukiError(Exception):
    """Base of all errors. The message is one line: what, where, and what to do."""

    exit_code: ClassVar[int] = 70


class InputError(TasukiError):
    """The caller passed something that can't be used."""

    exit_code = 65


class EmptyText(InputError):
    """The text has no characters but white space."""


class TextTooLong(InputError):
    """The text is longer than the bound (64 KiB of UTF-8), or has more tokens than a causal model's context."""


class UnknownLabel(InputError):
    """The label is neither in the artifact nor one that this device has added."""


class WrongTask(InputError):
    """The artifact is for another task: a classifier can't write, and a causal model has no labels."""


class ArtifactError(TasukiError):
    """The artifact can't be used."""

    exit_code = 65


class ArtifactMissing(ArtifactError):
    """There is no such file."""

    exit_code = 66


class ArtifactForeign(ArtifactError):
    """The file is not a Tasuki artifact that this version reads (no flatbuffer, no manifest, or another format)."""


class ArtifactCorrupt(ArtifactError):
    """The file is truncated, or a part is not what the manifest says."""


class ArtifactUnsigned(ArtifactError):
    """A trusted key was given, and the artifact has no signature."""

    exit_code = 77


class ArtifactForged(ArtifactError):
    """The manifest was altered after it was signed, or another key signed it."""

    exit_code = 77


class StateError(TasukiError):
    """The state directory can't be used."""

    exit_code = 74


class StateLocked(StateError):
    """Another process has the state open."""

    exit_code = 75


class StateCorrupt(StateError):
    """The state's database is damaged."""


class StateNewer(StateError):
    """A newer version of Tasuki wrote the state."""

    exit_code = 78


class StateMismatch(StateError):
    """The state belongs to another artifact or fleet."""

    exit_code = 78


class StateUnwritable(StateError):
    """The state can't be written: disk full, read-only, or no permission."""

    exit_code = 73


class KeyInvalid(TasukiError):
    """A key or enrolment file is missing, malformed, or not the right one."""

    exit_code = 77


class NotEnrolled(TasukiError):
    """The device has no enrolment yet."""

    exit_code = 78


class LinkError(TasukiError):
    """Talking to the gateway failed; nothing is lost, the spool keeps it."""

    exit_code = 75


class BrokerUnreachable(LinkError):
    """No connection to the broker."""

    exit_code = 69


class Unauthorised(LinkError):
    """The broker knows neither the token nor the name, or does not let this device in."""

    exit_code = 77


class SyncTimeout(LinkError):
    """The broker was reached, but an answer of the gateway did not come in time."""


class SyncCancelled(LinkError):
    """The caller stopped the sync before its end."""


class Refusal(IntEnum):
    """Why a message was not accepted. The codes travel in receipts (SPEC.md), so they never change meaning."""

    ADMITTED = 0
    MALFORMED = 1
    OVERSIZE = 2
    UNKNOWN_DEVICE = 3
    BAD_SIGNATURE = 4
    BAD_SEAL = 5
    WRONG_SUITE = 6
    WRONG_ARTIFACT = 7
    STALE_BASE = 8
    REPLAY = 9
    WRONG_SHAPE = 10
    NOT_FINITE = 11
    NORM = 12
    WRONG_FLEET = 13
    ROLLBACK = 14
    EXPIRED = 15
    REVOKED = 16
    NO_SESSION = 17
    PARTS_WANTED = 18
    BAD_TOKEN = 19
    UNANNOUNCED_KEY = 20
    WRONG_KIND = 21
    TOO_OLD = 22
    MIXED_PARTS = 23

    @property
    def word(self) -> str:
        """The name as it is printed, e.g. ``bad signature``."""
        return self.name.lower().replace("_", " ")


class Refused(TasukiError):
    """A message was not accepted. Whatever was there before is untouched."""

    exit_code = 76

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(f"refused ({reason.word})" + (f": {detail}" if detail else ""))
        self.reason = reason


class SourceUnavailable(TasukiError):
    """A package that carries a model or texts can't be had, or is not the pinned one."""

    exit_code = 69


class ConversionError(TasukiError):
    """The student can't become a full-int8 artifact."""

    exit_code = 65


class CheckpointMissing(ConversionError):
    """There is no such checkpoint, or it lacks a file."""

    exit_code = 66


class CheckpointCorrupt(ConversionError):
    """The checkpoint's file is truncated, contradicts itself or its config, or has weights that are not finite."""


class CheckpointUnsupported(ConversionError):
    """The checkpoint is of a family, or has a field or format, that this version doesn't convert."""


class HeadMismatch(ConversionError):
    """The labels are not those of the classifier's head, the head does not fit the encoder, or there is none."""


class TextsInvalid(ConversionError):
    """A file of texts is missing, empty, unreadable or not fit for its use; the message names file and line."""


class BudgetTooSmall(ConversionError):
    """No student fits the flash and working memory that there are; the message names the smallest one's needs."""


class FirmwareError(TasukiError):
    """A model can't become firmware, or a board can't be used."""

    exit_code = 65


class ModelCorrupt(FirmwareError):
    """The flatbuffer is truncated or contradicts itself."""


class ModelUnsupported(FirmwareError):
    """An operator, type or shape that the compiler doesn't have; the message names it, its tensor and what would do."""


class ModelTooLarge(FirmwareError):
    """The model takes more flash or memory than the board has; the message says by how much, and what takes most."""


class ToolMissing(FirmwareError):
    """A compiler, emulator or programmer is not installed; the message says how to install it."""

    exit_code = 69


class BuildFailed(FirmwareError):
    """The C compiler or the linker gave up; the message has its first complaint."""

    exit_code = 70


class BoardSilent(FirmwareError):
    """The board, or the emulator, does not answer, or not as it should."""

    exit_code = 69


class MissingExtra(TasukiError):
    """The packages of this room are not installed."""

    exit_code = 78


class NotAvailable(TasukiError):
    """Not in this version."""

    exit_code = 69
