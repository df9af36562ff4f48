"""Answer commands, and say when an answer should not be acted on.

python examples/classify.py lamp.tflite 'turn on the kitchen light' 'what is the meaning of life'
"""

import sys

from tasuki.sdk import Device

with Device.open(sys.argv[1], state="state") as device:
    for text in sys.argv[2:] or ["turn on the kitchen light"]:
        answer = device.predict(text)
        doubt = " (uncertain: ask again, or ask a larger model)" if answer.uncertain else ""
        print(f"{text!r} is {answer.label}, {answer.probability:.0%} sure, {answer.latency_ms:.2f} ms{doubt}")
