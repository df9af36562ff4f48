"""Learn from what the user says of an answer: yes, or what was meant.

python examples/feedback.py lamp.tflite
"""

import sys

from tasuki.sdk import Device

with Device.open(sys.argv[1], state="state") as device:
    for text in map(str.strip, sys.stdin):
        answer = device.predict(text)
        print(f"{text}: {answer.label}? [yes, or what you meant]")
        said = sys.stdin.readline().strip()
        device.learn(text, answer.label if said in ("", "yes") else said, new_label=True, durable=False)
    device.flush()  # one write for all
    why = device.explain("make it cosy")
    print(f"'make it cosy' is {why.answers[why.answered_by].label}, says the {why.answered_by} adapter: {why.reason}")
