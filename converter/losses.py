"""What a student is asked to have in common with its teacher. All losses are means over a batch.

hard      cross entropy with the labels, of the texts that have one
soft      cross entropy with the teacher's distribution at temperature T, times T^2 (Hinton et al. 2015)
feature   squared distance of a linear image of the student's features to the teacher's unit embeddings (Romero et al.
          2015; Jiao et al. 2020); the image exists only in training
relation  where the student's pieces are the teacher's: how the values of a sentence's pieces relate to each
          other in the last layer (Wang et al. 2020, "MiniLM"; the heads are cut anew, so their number may differ:
          Wang et al. 2021)
alike     how the sentences of a batch relate to each other, which needs no pieces and so holds for every text (Tung
          and Mori 2019, "Similarity-preserving knowledge distillation")
"""

import numpy as np
import tensorflow as tf

from tasuki.converter.graph import Floats

_FAR = -1e9


def hard(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """`targets` int32 [n], -1 where a text has none."""
    known = tf.cast(targets >= 0, tf.float32)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), logits)
    return tf.reduce_sum(known * each) / tf.maximum(tf.reduce_sum(known), 1.0)


def soft(logits: tf.Tensor, wanted: tf.Tensor, temperature: float) -> tf.Tensor:
    """`wanted` are the teacher's logits [n, labels]."""
    each = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(wanted / temperature), logits / temperature)
    return temperature**2 * tf.reduce_mean(each)


def feature(image: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
    """Both [n, width of the teacher]."""
    return tf.reduce_mean(tf.reduce_sum((image - embeddings) ** 2, -1))


def alike(features: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
    """Distance of the cosines between the sentences of a batch: `features` [n, d], unit `embeddings` [n, width]."""
    mine = tf.math.l2_normalize(features - tf.reduce_mean(features, 0), -1)
    theirs = tf.math.l2_normalize(embeddings - tf.reduce_mean(embeddings, 0), -1)
    apart = tf.matmul(mine, mine, transpose_b=True) - tf.matmul(theirs, theirs, transpose_b=True)
    return tf.reduce_mean(tf.reduce_sum(apart**2, -1))


def relation(mine: tf.Tensor, theirs: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Divergence of the relations between a sentence's pieces, over the sentences and places that are `real`.

    `mine` are the student's vectors [n, tokens, d], cut into as many relation heads as `theirs` have: the teacher's
    `products` [n, heads, tokens, tokens]. `real` bool [n, tokens] is all False for a sentence whose pieces differ.
    """
    heads = theirs.shape[1]
    count, tokens, width = mine.shape
    mine = tf.transpose(tf.reshape(mine, [count, tokens, heads, width // heads]), [0, 2, 1, 3])
    scores = tf.matmul(mine, mine, transpose_b=True) / (width // heads) ** 0.5
    wanted, found = (tf.nn.log_softmax(tf.where(real[:, None, None, :], x, _FAR)) for x in (theirs, scores))
    each = tf.reduce_sum(tf.exp(wanted) * (wanted - found), -1)
    weight = tf.cast(real, tf.float32)[:, None, :]
    return tf.reduce_sum(weight * each) / (heads * tf.maximum(tf.reduce_sum(weight), 1.0))


def products(vectors: Floats, heads: int) -> Floats:
    """Scaled products of each place with each, float32 [heads, tokens, tokens], of `vectors` [tokens, width]."""
    tokens, width = vectors.shape
    cut = vectors.reshape(tokens, heads, width // heads).transpose(1, 0, 2)
    return np.asarray(cut @ cut.transpose(0, 2, 1) / (width // heads) ** 0.5, np.float32)
