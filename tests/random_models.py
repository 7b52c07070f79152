"""Random models: how x is made, what f does with it, and what else is in the run."""

import collections

import numpy as np
from random_draws import DRAWS
from random_feeds import COUPLING_FEEDS, FEEDS
from random_functions import COUPLING_FUNCTIONS, FUNCTIONS
from random_library import FLOW, LOOPS, STEPS
from random_once import ONCE
from random_products import draw_products
from random_steps import COUPLING, ENDS, SEPARABLE

from batchhess.compat import tf

# words: what was drawn. ys, xs: for the operator. values: float64 arrays, where each
# x is. axis: of the observations. feed: for the library's run. place: from a Session
# and arrays to the feed_dict that puts xs there. restart: ops to run before each run.
# stops: Tensors that stand still as x moves. fed: list of (Tensor that tells what is
# fed, Tensor that is fed). train: an op of the same run, or None. draws: Tensors drawn
# at random, to be fetched in the run. coupling: whether a step may couple.
Model = collections.namedtuple(
    "Model",
    "words ys xs values axis feed place restart stops fed train draws coupling",
)
# kind: one of KINDS. random: RandomState. given: None, or what was drawn at random.
# narrow: the dtype in which it computes, None for that of x.
Special = collections.namedtuple("Special", "kind random given narrow")
_Source = collections.namedtuple("_Source", "xs values feed place restart inner")

MAKES = (
    ["placeholder"] * 4
    + ["ref variable", "resource variable", "intermediate", "stopped"]
    + ["split", "unstack", "iterator", "default"]
)

# Of the library's steps, those with a gradient of their own.
_GRADIENTS = ["custom gradient", "overridden"] * 3

# What a special model has one or two steps of.
KINDS = {
    "fed": sorted(FEEDS),
    "functions": sorted(FUNCTIONS),
    "file": sorted(FUNCTIONS) + sorted(LOOPS) + sorted(FLOW) + _GRADIENTS,
    "draws": sorted(DRAWS),
    "once": sorted(ONCE),
    "narrow": sorted(COUPLING) + sorted(LOOPS) + sorted(FLOW) + ["row_norm", "softmax"],
}


def draw_model(random, dtype, blocks, per_output, apart, special=None):
    """Draws a model in the default graph.

    Args:
      random: RandomState; the same one draws the same model in another dtype.
      dtype: of x.
      blocks: whether to have two xs.
      per_output: whether y is to be [N, M].
      apart: RandomState for products of several shapes to begin with; None for none.
      special: `Special`, or None.

    Returns:
      `Model`.
    """
    words = []
    n = int(random.choice([1, 2, 3, 4, 4, 4]))
    stored = special is not None and special.kind == "file"
    source, axis = _draw_xs(random, words, dtype, n, blocks, stored)
    rows = [_as_rows(x, axis) for x in source.xs]
    t = tf.concat(rows, 1) if blocks else rows[0]
    narrow = None if special is None else special.narrow
    if narrow:
        words.append("in " + narrow)
        t = tf.cast(t, narrow)
    made = _Made(random, words, t, source, special)
    if source.inner is not None and random.rand() < 0.5:
        t = t + tf.cast(source.inner, t.dtype)
        words.append("plus its sibling")
    coupling = n == 4 and random.rand() < 0.3
    steps = _draw_steps(random, coupling)
    if apart is not None:
        t = draw_products(apart, words, t)
        steps = steps if apart.rand() < 0.3 else []
    if special is not None:
        steps = _with_special(steps, special)
    for step in steps:
        t = made.after(step, t)
    y = _end(random, words, t, per_output)
    y = tf.cast(y, dtype) if narrow else y
    return Model(
        words,
        [y],
        source.xs,
        source.values,
        axis,
        made.feed,
        made.place,
        made.restart,
        made.stops,
        made.fed,
        made.train(y),
        made.draws,
        any(step in COUPLING or step in MAY_COUPLE for step in steps),
    )


class _Made:
    """What the steps of a model leave behind, beside the value of the last."""

    def __init__(self, random, words, base, source, special):
        self._random, self._words, self._base = random, words, base
        self._special, self._weight = special, None
        self.restart = list(source.restart)
        self.stops, self.fed, self.draws, self.given = [], [], [], {}
        self.feed, self._source = source.feed, source

    def place(self, session, moved):
        """What to feed for xs to be at the arrays `moved`."""
        placed = dict(self.given)
        placed.update(self._source.place(session, moved))
        return placed

    def after(self, step, t):
        """The value of `step` on `t`."""
        random = self._random
        self._words.append(step)
        if step == "weight":
            self._weight, t, start = _weight(random, t)
            self.restart.append(start)
        elif step == "stop":
            self.stops.append(tf.stop_gradient(tf.sin(t)))
            t = t * self.stops[-1]
        elif step == "fed":
            before, t = t, _feedable(random, t)
            if not self.fed and random.rand() < 0.7:
                by = tf.constant(random.uniform(0.05, 0.3), t.dtype)
                self.fed.append((before + by, t))
                self._words.append("(is fed)")
        elif step in FEEDS:
            t, fed, value = FEEDS[step](self._special.random, t)
            self.fed.append((value, fed))
        elif step in DRAWS:
            t = self._drawn(step, t)
        else:
            t = _apply(step, t, self._base)
        return t

    def _drawn(self, step, t):
        live, of_given = DRAWS[step]
        if self._special.given is None:
            t, drawn = live(t)
            self.draws.append(drawn)
            return t
        value = self._special.given[len(self.given)]
        drawn = tf.placeholder(t.dtype, value.shape)
        self.given[drawn] = value
        self.feed = dict(self.feed)
        self.feed[drawn] = value
        return of_given(t, drawn)

    def train(self, y):
        """Mostly an op that trains the weight in the same run, or None."""
        if self._weight is None or self._random.rand() >= 0.7:
            return None
        self._words.append("trained in the run")
        (gradient,) = tf.gradients(y, self._weight)
        # A step that follows f: that of a weight which f is linear in need not.
        unmoved = tf.reduce_sum(y) + tf.reduce_sum(gradient)
        return tf.assign_add(self._weight, 1.5 + 0 * unmoved)


def _with_special(steps, special):
    """A few of `steps`, which a refusal may come from, and one or two of the kind."""
    random, names = special.random, KINDS[special.kind]
    steps = steps[: random.randint(3)]
    if special.kind in ("fed", "draws"):
        # What is fed is computed in a run of its own, where other numbers are drawn.
        steps = [step for step in steps if step != "fed"]
    for _ in range(random.randint(1, 3)):
        at = random.randint(len(steps) + 1)
        steps.insert(at, names[random.randint(len(names))])
    return steps


# Of the library's steps.
MAY_COUPLE = (
    {
        "scan of rows",
        "batch norm",
        "mean of weights",
        "mean_squared_error",
        "function of a batch mean",
        "cond on value",
    }
    | COUPLING_FEEDS
    | COUPLING_FUNCTIONS
)


def _draw_steps(random, coupling):
    names = sorted(SEPARABLE) + 2 * sorted(STEPS)
    names += ["weight", "stop", "fed"] * 4
    steps = [names[random.randint(len(names))] for _ in range(random.randint(1, 5))]
    if coupling:
        more = sorted(COUPLING)
        steps.insert(random.randint(len(steps) + 1), more[random.randint(len(more))])
    return steps


def _apply(step, t, x):
    families = (STEPS, SEPARABLE, FUNCTIONS, COUPLING, ONCE)
    f = next(family[step] for family in families if step in family)
    t = f(t, x)
    return t[:, :6] if t.shape.as_list()[-1] > 6 else t


def _weight(random, t):
    resource = bool(random.rand() < 0.5)
    start = tf.constant(0.8, t.dtype)
    w = tf.get_variable(
        "weight{}".format(len(tf.global_variables())),
        initializer=start,
        use_resource=resource,
    )
    return w, t * w, w.initializer


def _feedable(random, t):
    if random.rand() < 0.5:
        return tf.identity(t)
    return tf.placeholder_with_default(t, [None, t.shape.as_list()[-1]])


def _end(random, words, t, per_output):
    if per_output:
        words.append("[N, M]")
        return t
    end = sorted(ENDS)[random.randint(len(ENDS))]
    words.append(end)
    return ENDS[end](t)


def _value(random, shape, words):
    value = random.randn(*shape)
    special = random.rand()
    if special < 0.12:
        value *= random.rand(*shape) < 0.6
        words.append("zeros")
    elif special < 0.2:
        value = np.round(value)
        words.append("ties")
    return value


def _as_rows(x, axis):
    """x, a Tensor or Variable, as [N, K]."""
    rank, sizes = x.shape.ndims, x.shape.as_list()
    if axis:
        x = tf.transpose(x, [axis] + [a for a in range(rank) if a != axis])
    size = int(np.prod([s for a, s in enumerate(sizes) if a != axis]))
    return tf.reshape(x, [-1, size])


def _draw_xs(random, words, dtype, n, blocks, stored):
    event = [(3,), (4,), (2,), (2, 2), (), (1,)][
        random.choice(6, p=[0.35, 0.2] + [0.15, 0.15, 0.05, 0.1])
    ]
    axis = 1 if len(event) and random.rand() < 0.2 else 0
    shape = list(event)
    shape.insert(axis, n)
    make = "placeholder" if blocks else MAKES[random.randint(len(MAKES))]
    if stored and ("variable" in make or make == "iterator"):
        make = "placeholder"
    static = random.rand() < 0.3
    value = _value(random, shape, words)
    words.append("{} {}{}".format(make, shape, "" if static else ", N unknown"))
    if axis:
        words.append("batch_axis=1")
    if blocks:
        more = [2]
        more.insert(axis, n)
        values = [value, random.randn(*more)]
        if len(shape) == 1:
            values[1] = random.randn(n, 2)
        xs = [
            tf.placeholder(
                dtype,
                [
                    None if a == axis and not static else s
                    for a, s in enumerate(v.shape)
                ],
            )
            for v in values
        ]
        place = lambda _, moved: dict(zip(xs, moved))  # noqa: E731
        return _Source(xs, values, dict(zip(xs, values)), place, [], None), axis
    return _make(make, dtype, shape, axis, static, value), axis


def _make(make, dtype, shape, axis, static, value):
    known = [None if a == axis and not static else s for a, s in enumerate(shape)]
    inner = None
    if "variable" in make:
        return _variable(make, dtype, value)
    if make == "iterator":
        labels = np.linspace(-1, 1, shape[axis])[:, None]
        arrays = (value.astype(dtype), labels.astype(dtype))
        data = tf.data.Dataset.from_tensors(arrays).repeat()
        iterator = tf.data.make_initializable_iterator(data)
        x, inner = iterator.get_next()
        place = lambda _, moved: {x: moved[0]}  # noqa: E731
        return _Source([x], [value], {}, place, [iterator.initializer], inner)
    p = tf.placeholder(dtype, known)
    feed = {p: value}
    if make == "placeholder":
        x = p
    elif make == "intermediate":
        x = tf.identity(p * 1.0)
    elif make == "default":
        x = tf.placeholder_with_default(p + 0.0, known)
    elif make == "stopped":
        x = tf.stop_gradient(p * 1.0)
    else:
        if make == "split" and len(shape) > 1:
            along = 1 - axis
            x, other = tf.split(tf.concat([p, tf.sin(p)], along), 2, axis=along)
        else:
            x, other = tf.unstack(tf.stack([p, tf.sin(p)]), num=2)
        inner = _as_rows(other, axis)

    def place(_, moved):
        placed = dict(feed)
        placed[x] = moved[0]
        return placed

    return _Source([x], [value], feed, place, [], inner)


def _variable(make, dtype, value):
    x = tf.get_variable(
        "x",
        initializer=tf.constant(value, dtype),
        use_resource=make.startswith("resource"),
    )
    moved_to = tf.placeholder(dtype, value.shape)
    move = tf.assign(x, moved_to)

    def place(session, moved):
        session.run(move, {moved_to: moved[0]})
        return {}

    return _Source([x], [value], {}, place, [], None)
