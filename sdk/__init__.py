"""The board: infers, learns its last layer, seals and sends what it learned.

    from tasuki.sdk import Device

    with Device.open("lamp.tflite", state="state") as device:
        print(device.predict("turn on the kitchen light").label)
        device.learn("make it cosy", "movie_night", new_label=True)
        device.sync()

The TFLite runtime is loaded when a device is opened, solvers when it first fits, cryptography and MQTT when a fleet is
first spoken of. `Limits` and `Conditions` (of `tasuki.sdk.policy`) and `SyncResult` are here as well.
"""

from typing import TYPE_CHECKING

from tasuki.sdk.device import Device
from tasuki.sdk.errors import TasukiError
from tasuki.sdk.prediction import Explanation, Prediction

if TYPE_CHECKING:
    from tasuki.sdk.policy import Conditions as Conditions
    from tasuki.sdk.policy import Limits as Limits
    from tasuki.sdk.sync_result import SyncResult as SyncResult

__all__ = ["Device", "Explanation", "Prediction", "TasukiError"]
_LATER = {"Conditions": "policy", "Limits": "policy", "SyncResult": "sync_result"}


def __getattr__(name: str) -> object:
    """What a program that only answers does not need is loaded at first use (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
