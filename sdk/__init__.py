"""The board: infers, learns its last layer, seals and sends what it learned.

    from tasuki.sdk import Device

    with Device.open("lamp.tflite", state="state") as device:
        print(device.predict("turn on the kitchen light").label)
        device.learn("make it cosy", "movie_night", new_label=True)
        device.sync()

The TFLite runtime is loaded when a device is opened, not at import.
"""

from tasuki.sdk.device import Device, Prediction
from tasuki.sdk.errors import TasukiError
from tasuki.sdk.link import SyncResult

__all__ = ["Device", "Prediction", "SyncResult", "TasukiError"]
