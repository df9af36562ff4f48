"""Answer, learn from a correction, and answer again.

python examples/classify.py lamp.tflite
"""

import sys

from tasuki.sdk import Device

with Device.open(sys.argv[1], state="state") as device:
    answer = device.predict("make it cosy in here")
    print(f"before: {answer.label} ({answer.probability:.0%}, {answer.latency_ms:.2f} ms)")
    for text in ("make it cosy in here", "cosy please", "time to get cosy"):
        device.learn(text, "movie_night", new_label=True)
    answer = device.predict("let us get cosy")
    print(f"after:  {answer.label} ({answer.probability:.0%}, {answer.latency_ms:.2f} ms)")
