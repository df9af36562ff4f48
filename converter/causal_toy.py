"""A made-up causal teacher and text, small enough for tests: nothing is downloaded, and little can be learned."""

import hashlib
import random

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasuki.converter.causal_texts import Corpus
from tasuki.converter.families import Checkpoint, LlamaConfig, llama_shapes

_WORDS = [
    "a", "and", "are", "bye", "do", "dog", "eat", "fine", "fun", "good", "great", "hello",
    "how", "is", "it", "lake", "like", "music", "my", "nice", "oh", "pasta", "pizza", "play",
    "please", "see", "song", "soon", "thanks", "the", "to", "today", "too", "was", "we", "went",
    "what", "with", "yesterday", "you",
]  # fmt: skip


def talk(seed: int) -> Corpus:
    """Lines of random words; what follows a word is one of few."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    after = {word: rng.sample(_WORDS, 3) for word in _WORDS}

    def text() -> str:
        word, said = rng.choice(_WORDS), []
        for _ in range(60):
            said.append(word)
            word = rng.choice(after[word])
        return "".join(" ".join(said[at : at + 6]) + "\n" for at in range(0, 60, 6))

    return Corpus(*(tuple(text() for _ in range(count)) for count in (40, 8, 8)))


def teacher(seed: int) -> Checkpoint:
    """A Llama of random weights with a byte-level BPE of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<|start|>", "<|end|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(talk(seed).train, trainer)
    config = LlamaConfig(
        vocabulary=tokenizer.get_vocab_size(), width=32, layers=1, heads=2, kv_heads=1, head_width=16, inner=48,
        positions=128, norm_epsilon=1e-5, rope_theta=10000.0, tied=True, bos=0, eos=1,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    tensors = {
        name: (np.ones(shape) if len(shape) == 1 else rng.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)
        for name, shape in llama_shapes(config).items()
    }
    content = tokenizer.to_str().encode()
    sha256 = hashlib.sha256(b"".join(value.tobytes() for value in tensors.values())).hexdigest()
    return Checkpoint(config, tensors, content, (), "toy", "CC0-1.0", sha256)
