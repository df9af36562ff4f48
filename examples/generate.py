"""Write on from a prompt with a causal model, as it goes.

python examples/generate.py talker.tflite 'how was your'
"""

import sys

from tasuki.sdk import Device

with Device.open(sys.argv[1], state="state") as device:
    prompt = sys.argv[2] if len(sys.argv) > 2 else "how was your"
    text = device.generate(prompt, max_tokens=32, temperature=0.7, top_p=0.9, seed=1)
    print(prompt, end="")
    for piece in text:
        print(piece, end="", flush=True)
    print(f"\n{text.tokens} tokens, ended by {text.reason}")
    print(f"perplexity of the prompt: {device.score(prompt).perplexity:.1f}")
