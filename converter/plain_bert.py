"""The BERT family in ordinary TensorFlow, as its own papers and libraries write it: the input of the plain conversion.

Nothing here is made for integers: LayerNorm is mean, variance and RSQRT, GELU is one operator, padding is
masked by a number that is added to the scores. Where usage differs, the form that survives int8 best is taken, so that
the baseline is no straw man. On MiniLM-L6, full static int8, mean cosine to float on 300 held-out smart-home sentences:
LayerNorm as Keras writes it, with the gain inside the factor, 0.80; as the paper writes it 0.71; and the latter with
-10,000 instead of `MASKED` 0.18.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tasuki.converter.checkpoint import BertConfig
from tasuki.converter.graph import Floats
from tasuki.converter.plain import Function, Values

# Libraries add -10,000 or the least float, which takes the whole range of the scores' tensor in int8.
MASKED = -40.0


def function(
    config: BertConfig,
    weights: Mapping[str, Floats],
    tokens: int,
    depths: Sequence[int],
    head: tuple[Floats, Floats] | None = None,
    masked: float = MASKED,
) -> Function:
    """Ids int32 [n, `tokens`] to ``features.K``, the mean-pooled states of `depths`, and ``logits`` with a `head`.

    `weights` are in Hugging Face's names; `head` is (weight [labels, width of all depths], bias [labels]).
    """
    w, width, size = weights, config.width, config.width // config.heads

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        mean = tf.reduce_mean(x, -1, keepdims=True)
        # A product, because int16 has no kernel for the squared difference; in int8 both are as good.
        variance = tf.reduce_mean((x - mean) * (x - mean), -1, keepdims=True)
        gain, offset = w[f"{name}.weight"], w[f"{name}.bias"]
        return tf.nn.batch_normalization(x, mean, variance, offset, gain, config.norm_epsilon)

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.matmul(x, w[f"{name}.weight"], transpose_b=True) + w[f"{name}.bias"]

    def split(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, (-1, tokens, config.heads, size)), (0, 2, 1, 3))

    def attention(x: tf.Tensor, mask: tf.Tensor, name: str) -> tf.Tensor:
        query, key, value = (split(dense(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        scores = tf.matmul(query, key, transpose_b=True) * np.float32(size**-0.5) + mask
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), (0, 2, 1, 3))
        return dense(tf.reshape(mixed, (-1, width)), f"{name}.output.dense")

    def active(x: tf.Tensor) -> tf.Tensor:
        if config.activation == "relu":
            return tf.nn.relu(x)
        return tf.nn.gelu(x, approximate=config.activation == "gelu_new")

    def call(values: Values) -> dict[str, tf.Tensor]:
        ids = values["ids"]
        # TensorFlow Lite Micro has no SELECT: a table of two rows instead of a comparison.
        real = tf.gather(np.array([0, 1], np.float32), tf.minimum(ids, 1))
        mask = tf.reshape((1 - real) * masked, (-1, 1, 1, tokens))
        x = tf.gather(w["embeddings.word_embeddings.weight"], ids)
        fixed = w["embeddings.position_embeddings.weight"][:tokens] + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(tf.reshape(x + fixed, (-1, width)), "embeddings.LayerNorm")
        states = {0: x}
        for n in range(config.layers):
            name = f"encoder.layer.{n}"
            x = norm(x + attention(x, mask, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
            inner = active(dense(x, f"{name}.intermediate.dense"))
            x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
            states[n + 1] = x
        # Equal shares of the tokens: a quotient is refused for int16 activations, and is no better in int8.
        shares = tf.nn.softmax((1 - real) * masked)[:, None, :]
        found = {}
        for depth in depths:
            rows = tf.reshape(states[depth], (-1, tokens, width))
            found[f"features.{depth}"] = tf.reshape(tf.matmul(shares, rows), (-1, width))
        if head is not None:
            joined = tf.concat([found[f"features.{depth}"] for depth in depths], 1)
            found["logits"] = tf.matmul(joined, head[0], transpose_b=True) + head[1]
        return found

    return Function({"ids": ((1, tokens), np.dtype(np.int32))}, call)
