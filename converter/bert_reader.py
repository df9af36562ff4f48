"""An encoder of the BERT family reads texts in float32, as fast as a processor can: no padding, no mask (Devlin 2019).

Sentences of one length share a batch. `bert.lower` is the same model for conversion, at a fixed length.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasuki.converter import losses, pack
from tasuki.converter.families import BertConfig, Checkpoint
from tasuki.converter.graph import Floats
from tasuki.converter.sources import cache_folder
from tasuki.sdk.errors import CheckpointUnsupported

Counter = Callable[[int, int], None]
_MAX_TOKENS: Final = 64
_BATCH: Final = 128
_DEPTHS: Final = 3
_ACTIVATIONS: Final = {
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
}


class BertReader:
    """Embeddings are the means of a text's states at three depths (words, middle, last), each as long as the others
    and together of unit length: a head on all three beats one on the last, which has lost some of the words. Logits
    are those of the checkpoint's classifier. Texts are cut at 64 tokens. Raises CheckpointUnsupported if `found` is no
    encoder.
    """

    def __init__(self, found: Checkpoint) -> None:
        if not isinstance(found.config, BertConfig):
            raise CheckpointUnsupported(f"{found.name} is a decoder; a classifier's teacher is of the BERT family")
        self.found, self.config = found, found.config
        self.tokenizer = Tokenizer.from_buffer(found.tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(min(_MAX_TOKENS, found.config.positions))

    def read(self, texts: Sequence[str], progress: Counter) -> tuple[Floats, Floats]:
        """Embeddings float32 [n, 3 width] and logits float32 [n, labels]; kept in the cache by weights and texts."""
        key = "\0".join(["depths", self.found.sha256, *texts]).encode("utf-8", "replace")
        kept = cache_folder() / "embeddings" / f"{hashlib.sha256(key).hexdigest()[:32]}.npy"
        width = _DEPTHS * self.config.width
        if kept.exists():
            said: Floats = np.load(kept, allow_pickle=False)
            progress(len(texts), len(texts))
        else:
            forward, said = _forward(self.found), np.empty((len(texts), width + len(self.found.labels)), np.float32)
            for rows, ids in self._batches(texts, progress):
                means, first, _ = (x.numpy() for x in forward(tf.constant(ids)))
                said[rows] = np.concatenate([means, self._classify(first)], 1)
            content = io.BytesIO()
            np.save(content, said, allow_pickle=False)
            pack.write(kept, content.getvalue())
        return said[:, :width], said[:, width:]

    def relate(self, texts: Sequence[str], heads: int, progress: Counter) -> list[tuple[list[str], Floats]]:
        """Of each text the pieces without the special ones, and the `losses.products` of their last values."""
        found: dict[int, tuple[list[str], Floats]] = {}
        forward = _forward(self.found)
        for rows, ids in self._batches(texts, progress):
            values = forward(tf.constant(ids))[2]
            for row, each, value in zip(rows, ids[:, 1:-1], values.numpy()[:, 1:-1], strict=True):
                names = [str(self.tokenizer.id_to_token(int(number))) for number in each]
                found[row] = names, losses.products(value, heads)
        return [found[row] for row in range(len(texts))]

    def _classify(self, first: Floats) -> Floats:
        """Logits of the checkpoint's own head on the first token's state; DistilBERT has a ReLU for BERT's tanh."""
        w = self.found.tensors
        if not self.found.labels:
            return np.zeros((len(first), 0), np.float32)
        if "pre_classifier.weight" in w:
            inner = np.maximum(first @ w["pre_classifier.weight"].T + w["pre_classifier.bias"], 0)
        else:
            inner = np.tanh(first @ w["pooler.dense.weight"].T + w["pooler.dense.bias"])
        return np.asarray(inner @ w["classifier.weight"].T + w["classifier.bias"], np.float32)

    def _batches(self, texts: Sequence[str], progress: Counter) -> Iterator[tuple[list[int], NDArray[np.int32]]]:
        """Rows of one length, and their ids int32 [n, tokens]."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        done = 0
        while done < len(order):
            length = len(ids[order[done]])
            rows = [row for row in order[done : done + _BATCH] if len(ids[row]) == length]
            yield rows, np.array([ids[row] for row in rows], np.int32)
            done += len(rows)
            progress(done, len(order))


def _forward(found: Checkpoint) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Ids int32 [n, tokens] to embeddings, the first tokens' last states [n, width], and the last layer's values
    [n, tokens, width].
    """
    c = found.config
    assert isinstance(c, BertConfig)  # noqa: S101  (the reader has seen to it)
    w = {name: tf.constant(value) for name, value in found.tensors.items()}
    parts = ("query", "key", "value")
    # Query, key and value in one product.
    joined = [
        tuple(tf.concat([w[f"encoder.layer.{n}.attention.self.{part}.{kind}"] for part in parts], 0)
              for kind in ("weight", "bias"))
        for n in range(c.layers)
    ]  # fmt: skip
    size, activate = c.width // c.heads, _ACTIVATIONS[c.activation]

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + c.norm_epsilon) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.matmul(x, w[f"{name}.weight"], transpose_b=True) + w[f"{name}.bias"]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])  # type: ignore[untyped-decorator]
    def forward(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        count, length = tf.shape(ids)[0], tf.shape(ids)[1]
        x = tf.gather(w["embeddings.word_embeddings.weight"], ids)
        x += w["embeddings.position_embeddings.weight"][:length] + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        values, states = x, [x]
        for n in range(c.layers):
            name = f"encoder.layer.{n}"
            qkv = tf.matmul(x, joined[n][0], transpose_b=True) + joined[n][1]
            values = qkv[..., 2 * c.width :]
            qkv = tf.transpose(tf.reshape(qkv, [count, length, 3, c.heads, size]), [2, 0, 3, 1, 4])
            scores = tf.matmul(qkv[0], qkv[1], transpose_b=True) / size**0.5
            mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), qkv[2]), [0, 2, 1, 3])
            mixed = tf.reshape(mixed, [count, length, c.width])
            x = norm(x + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            inner = activate(dense(x, f"{name}.intermediate.dense"))
            x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
            states.append(x)
        means = [tf.reduce_mean(states[depth], 1) for depth in (0, c.layers // 2, c.layers)]
        means = tf.concat([tf.math.l2_normalize(mean, -1) / _DEPTHS**0.5 for mean in means], 1)
        return means, x[:, 0], values

    return forward  # type: ignore[no-any-return]
