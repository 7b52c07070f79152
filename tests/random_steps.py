"""Steps of random programs that keep observations apart, or couple them.

Also `outcomes`: whether the proof is ever fooled by a program made of them.
"""

import collections

import numpy as np
import tensorflow

from batchhess.compat import tf
from batchhess.ops.states import UNPROVEN

N, K = 4, 6
PER_GRAPH = 20

# steps: names; coupling: whether a step that may couple is among them.
Program = collections.namedtuple("Program", "y steps coupling")
# Of one program: proven, coupled in numbers, and the program.
Outcome = collections.namedtuple("Outcome", "proven coupled program proof")


def _weights(rows, columns, dtype=tf.float64):
    values = np.random.RandomState(rows * 31 + columns).randn(rows, columns)
    return tf.constant(values / np.sqrt(rows), dtype)


def _width(t):
    return t.shape.as_list()[-1]


def _half(t):
    return _width(t) // 2 or 1


def _loop(body, start):
    """Three steps of `body(i, carried)`, as a loop of control flow v2."""

    def run(start):
        return tf.while_loop(
            lambda i, _: i < 3, lambda i, a: (i + 1, body(i, a)), (0, start)
        )[1]

    return tensorflow.function(run, autograph=False)(start)


# Each from [N, width] to [N, another width]; `x` is the program's own x.
SEPARABLE = {
    "tanh": lambda t, x: tf.tanh(t),
    "square": lambda t, x: tf.square(t) / 4,
    "softplus_of_scaled": lambda t, x: tf.nn.softplus(0.7 * t - 0.1),
    "dense": lambda t, x: tf.matmul(t, _weights(_width(t), 5, t.dtype)) + 0.1,
    "dense_transposed": lambda t, x: tf.transpose(
        tf.matmul(_weights(4, _width(t), t.dtype), t, transpose_b=True)
    ),
    "softmax": lambda t, x: tf.nn.softmax(t),
    "log_softmax": lambda t, x: tf.nn.log_softmax(t),
    "concat_x": lambda t, x: tf.concat([t, x], 1),
    "split": lambda t, x: t[:, : _half(t)] * t[:, -_half(t) :],
    "gather_columns": lambda t, x: tf.gather(t, [0, _width(t) - 1, 0], axis=1),
    "pad_columns": lambda t, x: tf.pad(t, [[0, 0], [1, 0]]),
    "tile_columns": lambda t, x: tf.tile(t, [1, 2])[:, : _width(t) + 1],
    "row_mean": lambda t, x: t - tf.reduce_mean(t, 1, keepdims=True),
    "row_norm": lambda t, x: t / tf.sqrt(1 + tf.reduce_sum(t**2, 1, keepdims=True)),
    "row_max": lambda t, x: t * tf.reduce_max(t, axis=1)[:, None] / 3,
    "outer": lambda t, x: tf.reshape(
        t[:, :2, None] * t[:, None, :2], [-1, min(_width(t), 2) ** 2]
    ),
    "outer_dynamic": lambda t, x: tf.reshape(
        tf.einsum("ni,nj->nij", t[:, :2], t[:, :2]),
        tf.stack([tf.shape(t)[0], min(_width(t), 2) ** 2]),
    ),
    "quadratic_form": lambda t, x: (
        tf.einsum("ni,ij,nj->n", t, _weights(_width(t), _width(t), t.dtype), t)[:, None]
        + t
    ),
    "attention": lambda t, x: tf.squeeze(
        tf.matmul(tf.nn.softmax(t[:, :, None] * t[:, None, :]), t[:, :, None]), [2]
    ),
    "cumsum": lambda t, x: tf.cumsum(t, axis=1) / 2,
    "reverse": lambda t, x: t * tf.reverse(t, [1]) + 0.3,
    "where": lambda t, x: tf.where(t > 0, tf.sin(t), t),
    "stack": lambda t, x: tf.reduce_sum(tf.stack([t, tf.cos(t)], axis=0), 0),
    "unstack": lambda t, x: tf.stack(tf.unstack(t, axis=1)[::-1], axis=1) * t,
    "transposed_twice": lambda t, x: tf.transpose(tf.sinh(tf.transpose(t) / 3)),
    "times_x": lambda t, x: t * tf.reduce_sum(x, 1, keepdims=True) / 2,
    "cond": lambda t, x: tf.cond(
        tf.constant(True), lambda: tf.sin(t), lambda: tf.exp(t)
    ),
    "dense_of_pairs": lambda t, x: tf.reshape(
        tf.tanh(
            tf.matmul(tf.reshape(tf.tile(t, [1, 2]), [-1, 2]), _weights(2, 3, t.dtype))
        ),
        [-1, _width(t) * 3],
    ),
    "dense_of_rank_3": lambda t, x: tf.reduce_sum(
        tf.tensordot(
            t[:, :, None] * t[:, None, :2], _weights(min(2, _width(t)), 3, t.dtype), 1
        ),
        2,
    ),
    "loop": lambda t, x: _loop(lambda i, a: tf.tanh(a + t / 2), t),
    "function": lambda t, x: tensorflow.function(tf.sin, autograph=False)(t) * t,
}

COUPLING = {
    "batch_mean": lambda t, x: t - tf.reduce_mean(t, 0),
    "batch_norm": lambda t, x: t / tf.sqrt(1 + tf.math.reduce_variance(t, 0)),
    "gram": lambda t, x: tf.matmul(tf.matmul(t, t, transpose_b=True), t) / 9,
    "gram_columns": lambda t, x: tf.matmul(t, tf.matmul(t, t, transpose_a=True)) / 9,
    "roll": lambda t, x: t * tf.roll(t, 1, 0),
    "roll_added": lambda t, x: t + tf.roll(t, 1, 0),
    "cumsum_rows": lambda t, x: tf.cumsum(t, axis=0) / 2,
    "softmax_rows": lambda t, x: tf.nn.softmax(t, axis=0),
    "reverse_rows": lambda t, x: t * tf.reverse(t, [0]),
    "broadcast_accident": lambda t, x: tf.matmul(
        tf.reduce_sum(t, 1, keepdims=True) * tf.reduce_sum(x, 1) / 4, t
    ),
    "total": lambda t, x: t * tf.reduce_sum(t) / 9,
    "log_sum_exp": lambda t, x: t * tf.reduce_logsumexp(t),
    "reshape_mix": lambda t, x: tf.reshape(
        tf.nn.softmax(tf.reshape(t, [-1, 2 * _width(t)])), [-1, _width(t)]
    ),
    "folded_roll": lambda t, x: (
        t * tf.reshape(tf.roll(tf.reshape(t, [-1, 1]), 1, 0), [-1, _width(t)])
    ),
    "folded_across": lambda t, x: tf.reshape(
        tf.nn.softmax(tf.reshape(tf.tile(t, [1, 3]), [-1, 2 * _width(t)])),
        [-1, 3 * _width(t)],
    ),
    "gather_rows": lambda t, x: t * tf.gather(t, [1, 0, 3, 3]),
    "sort_rows": lambda t, x: t * tf.transpose(tf.nn.top_k(tf.transpose(t), N)[0]),
    "neighbours": lambda t, x: tf.pad(t[1:] * t[:-1], [[0, 1], [0, 0]]),
    "split_rows": lambda t, x: tf.concat([t[:2] * t[2:], t[:2]], 0),
    "norm_of_all": lambda t, x: t / (1 + tf.norm(t)),
    "first_observation": lambda t, x: t * tf.tanh(t[0]),
    "loop_of_rows": lambda t, x: (
        t * _loop(lambda i, a: tf.sin(a + t[i]), tf.zeros([_width(t)], t.dtype))
    ),
    "loop_of_rolls": lambda t, x: _loop(lambda i, a: tf.sin(a) * tf.roll(t, i, 0), t),
    "column_products": lambda t, x: tf.matmul(
        t, tf.matmul(tf.transpose(t), tf.tanh(t)) / 9
    ),
}

ENDS = {
    "sum": tf.reduce_sum,
    "mean": tf.reduce_mean,
    "squares": lambda t: tf.nn.l2_loss(t),
    "rows": lambda t: tf.reduce_logsumexp(t, 1),
    "flat": lambda t: tf.reduce_sum(tf.exp(tf.reshape(t, [-1]) / 5)),
    "product": lambda t: tf.reduce_sum(t[:, 0] * t[:, -1]),
}


def draw(random, x):
    """Builds one program on `x`; half of them have one or more coupling steps."""
    count = random.randint(2, 6)
    couplings = random.randint(1, 3) if random.rand() < 0.5 else 0
    steps = [random.choice(sorted(SEPARABLE)) for _ in range(count)]
    steps += [random.choice(sorted(COUPLING)) for _ in range(couplings)]
    random.shuffle(steps)
    end = random.choice(sorted(ENDS))
    t = x
    for step in steps:
        t = (SEPARABLE.get(step) or COUPLING[step])(t, x)
    return Program(ENDS[end](t), steps + [end], couplings > 0)


def proof_of(y, x):
    """The `State` of y, as the library corrects it if it is not proven as it stands.

    1.15 names a gradient at every call of a function, as if it were its author's own.
    """
    from batchhess.analysis.proof import prove, walk_from
    from batchhess.rewriting import correct

    state = prove([y], walk_from(x, 0))
    return (
        prove(correct([y], [x], {}), walk_from(x, 0))
        if state.kind == UNPROVEN
        else state
    )


def outcomes(count, seed, batch_size=N):
    """Yields the `Outcome` of `count` random programs.

    A program is coupled in numbers if the gradient of one observation changes when
    another observation does: TensorFlow's first derivative, and nothing of the library.
    (So no program may hold a stop_gradient, which lets values pass but no derivative.)
    """
    random = np.random.RandomState(seed)
    for start in range(0, count, PER_GRAPH):
        with tf.Graph().as_default(), tf.Session() as session:
            shape = (batch_size if random.rand() < 0.3 else None, K)
            x = tf.placeholder(tf.float64, shape)
            programs = [draw(random, x) for _ in range(min(PER_GRAPH, count - start))]
            gradients = [tf.gradients(p.y, x)[0] for p in programs]
            proofs = [proof_of(p.y, x) for p in programs]
            value = random.randn(batch_size, K)
            base = session.run(gradients, {x: value})
            change = [0.0] * len(programs)
            for n in range(batch_size):
                moved = value.copy()
                moved[n] += random.randn(K)
                there = session.run(gradients, {x: moved})
                for i, (a, b) in enumerate(zip(base, there)):
                    others = np.arange(batch_size) != n
                    scale = max(np.abs(a).max(), np.abs(b).max(), 1e-300)
                    change[i] = max(change[i], np.abs(a - b)[others].max() / scale)
            for program, proof, changed in zip(programs, proofs, change):
                yield Outcome(proof.kind != UNPROVEN, changed > 1e-9, program, proof)


def tell_proofs(count, seed):
    """Prints whether the proof is fooled by `count` programs; answers how often."""
    tally, failures = collections.Counter(), []
    for outcome in outcomes(count, seed):
        tally[outcome.program.coupling, outcome.coupled, outcome.proven] += 1
        if outcome.coupled and outcome.proven:
            failures.append(outcome.program.steps)
        if not outcome.program.coupling and not outcome.proven:
            print("not proven:", outcome.program.steps, outcome.proof.op.type)
    ruled = sum(v for (coupling, _, _), v in tally.items() if not coupling)
    print("{} programs".format(count))
    print("coupled in numbers: {}".format(sum(v for k, v in tally.items() if k[1])))
    print("coupled, yet proven separable: {}".format(len(failures)))
    print("of separable steps alone: {},".format(ruled), end=" ")
    print("proven: {}".format(tally[False, False, True]))
    for steps in failures:
        print("FAILED:", steps)
    return len(failures)
