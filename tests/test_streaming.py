"""evaluate: the answers of one run, batch by batch, and what is left of a stop."""

import sys
import types

import numpy as np
import pytest

import batchhess
from batchhess.compat import tf


class Model:
    """Cubes of x, weighted; their Hessians are 6 w x on the diagonal."""

    def __init__(self, random, count=23, fixed=None):
        self.x = tf.placeholder(tf.float64, [fixed, 3], name="x")
        self.w = tf.placeholder(tf.float64, [fixed], name="w")
        self.scale = tf.placeholder(tf.float64, [], name="scale")
        self.y = self.scale * self.w * tf.reduce_sum(self.x**3, 1)
        self.fetches = batchhess.derivatives(self.y, self.x)
        self.feed = {
            self.x: random.randn(count, 3),
            "w:0": random.uniform(1, 2, count),
            self.scale: 2.0,
        }
        self.hessians = (
            12 * (self.feed["w:0"][:, None] * self.feed[self.x])[:, :, None] * np.eye(3)
        )

    def evaluate(self, **options):
        with tf.Session() as session:
            options.setdefault("batched", [self.x, self.w])
            options.setdefault("batch_size", 5)
            fetches = options.pop("fetches", self.fetches)
            feed = options.pop("feed", self.feed)
            return batchhess.evaluate(session, fetches, feed, **options)


@pytest.fixture
def model(random):
    return Model(random)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 1000])
def test_batches_equal_one_run(model, batch_size):
    seen = []
    found = model.evaluate(
        batch_size=batch_size, progress=lambda *given: seen.append(given)
    )
    assert isinstance(found, batchhess.Derivatives)
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)
    np.testing.assert_allclose(
        found.gradients[0],
        6 * model.feed["w:0"][:, None] * model.feed[model.x] ** 2,
        rtol=1e-12,
    )
    stops = list(range(batch_size, 23, batch_size)) + [23]
    assert seen == [(stop, 23) for stop in stops]


def test_no_observations(random):
    found = Model(random, count=0).evaluate()
    assert found.hessians[0].shape == (0, 3, 3)


def test_a_graph_of_a_fixed_number_of_observations(random):
    model = Model(random, fixed=5)
    found = model.evaluate()
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)
    with pytest.raises(ValueError, match=r"of \[5\] observations, and batch_size is 4"):
        model.evaluate(batch_size=4)


def test_another_observation_axis(random):
    x = tf.placeholder(tf.float64, [3, None])
    (hessian,) = batchhess.hessians(tf.reduce_sum(x**3), x, batch_axis=1)
    value = random.randn(3, 7)
    with tf.Session() as session:
        found = batchhess.evaluate(session, hessian, {x: value}, {x: 1}, batch_size=3)
    np.testing.assert_allclose(found, 6 * value.T[:, :, None] * np.eye(3), rtol=1e-12)


def test_arrays_of_the_callers_own(model):
    hessian = model.fetches.hessians[0]
    mine = np.empty((23, 3, 3))
    assert model.evaluate(fetches=hessian, out=mine) is mine
    np.testing.assert_allclose(mine, model.hessians, rtol=1e-12)
    with pytest.raises(ValueError, match=r"out has an array of float32 \(23, 3, 3\)"):
        model.evaluate(fetches=hessian, out=mine.astype("float32"))
    with pytest.raises(ValueError, match=r"\(22, 3, 3\), and the answer is float64"):
        model.evaluate(fetches=hessian, out=mine[:22])
    with pytest.raises((TypeError, ValueError), match="structure"):
        model.evaluate(fetches=[hessian], out=[mine, mine])


def test_a_directory_holds_the_results(model, tmp_path):
    found = model.evaluate(out=tmp_path / "new" / "results")
    files = sorted(p.name for p in (tmp_path / "new" / "results").iterdir())
    assert files == [
        ".lock",
        "gradients.npy",
        "hessians.npy",
        "journal.jsonl",
        "values.npy",
    ]
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)
    kept = np.load(str(tmp_path / "new" / "results" / "hessians.npy"))
    np.testing.assert_array_equal(kept, found.hessians[0])


class StoppedError(Exception):
    pass


def stopping_after(stop):
    def progress(done, count):
        if done >= stop:
            raise StoppedError

    return progress


def test_what_was_stopped_goes_on(model, tmp_path):
    with pytest.raises(StoppedError):
        model.evaluate(out=tmp_path, progress=stopping_after(10))
    with pytest.raises(ValueError, match="holds results. Pass resume=True"):
        model.evaluate(out=tmp_path)
    seen = []
    found = model.evaluate(
        out=tmp_path, resume=True, progress=lambda done, _: seen.append(done)
    )
    assert seen == [15, 20, 23]
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)
    again = model.evaluate(
        out=tmp_path, resume=True, progress=lambda *given: pytest.fail("done before")
    )
    np.testing.assert_array_equal(again.hessians[0], found.hessians[0])


def test_memory_maps_are_read_batch_by_batch(model, tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, model.feed[model.x])
    feed = dict(model.feed)
    feed[model.x] = np.load(path, mmap_mode="r")
    found = model.evaluate(feed=feed)
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)


def test_a_run_that_fails_tells_where(model):
    checked = tf.check_numerics(model.y, "not finite")
    model.feed["w:0"][12] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
        model.evaluate(fetches=checked)
    assert refusal.value.message.startswith("evaluate: observations 10 to 15: ")
    assert "not finite" in refusal.value.message


def test_what_has_no_observations_on_axis_0_is_refused(model):
    with pytest.raises(ValueError, match=r"has shape \(\) for 5 observations"):
        model.evaluate(fetches=tf.reduce_sum(model.y))
    with pytest.raises(ValueError, match=r"has shape \(3, 5\) for 5 observations"):
        model.evaluate(fetches=tf.transpose(model.x))


def test_bad_arguments(model):
    with tf.Graph().as_default():
        other = tf.constant([1.0])
    shared = np.broadcast_to(0.0, 23)
    for options, error, words in (
        ({"batched": []}, ValueError, "batched names nothing"),
        ({"batched": ["z:0"]}, ValueError, r"batched names \['z:0'\], and feed_dict"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, not positive"),
        ({"batch_size": 2.5}, TypeError, "batch_size is 2.5, no int"),
        ({"fetches": ["x:0"]}, TypeError, "fetches hold 'x:0', no tf.Tensor"),
        ({"resume": True}, ValueError, "resume=True needs a directory"),
        ({"batched": model.x}, TypeError, "batched is 'x:0', no list"),
        ({"batched": "x:0"}, TypeError, "batched is 'x:0', no list"),
        ({"progress": 5}, TypeError, "progress is 5, no function"),
        ({"progress": 1}, TypeError, "progress is 1, no function"),
        ({"fetches": other}, ValueError, "'.*' is of another graph than the session"),
        ({"fetches": model.y, "out": 5}, TypeError, "out holds 5, no array"),
        ({"fetches": model.y, "out": shared}, ValueError, "that can only be read"),
        (
            {"fetches": [model.y], "out": {"y": np.zeros(23)}},
            TypeError,
            "out has not the structure of fetches: it is a dict, and that a list.$",
        ),
        (
            {"feed": dict(model.feed, **{"w:0": (w for w in range(23))})},
            TypeError,
            "what is fed for 'w:0' is a generator, no array",
        ),
        (
            {"feed": dict(model.feed, **{"w:0": [[1]] * 22 + [[1, 2]]})},
            (TypeError, ValueError),
            "'w:0' is a list of rows of other lengths|what is fed for it is object",
        ),
        (
            {"feed": dict(model.feed, **{"w:0": np.ones(22)})},
            ValueError,
            "differ in their number of observations: .*23.*22|.*22.*23",
        ),
    ):
        with pytest.raises(error, match=words):
            model.evaluate(**options)


def test_what_is_not_batched_is_fed_whole(model):
    model.feed[model.scale] = 4.0
    twice = model.evaluate()
    np.testing.assert_allclose(twice.hessians[0], 2 * model.hessians, rtol=1e-12)


def test_a_mean_over_the_batch_is_refused(model):
    """Its Hessians are divided by the number of observations of each batch."""
    (mean,) = batchhess.hessians(tf.reduce_mean(model.y), model.x)
    with pytest.raises(ValueError, match="where they are run with others. Take a sum"):
        model.evaluate(fetches=mean)
    whole = model.evaluate(fetches=mean, batch_size=23)
    np.testing.assert_allclose(whole, model.hessians / 23, rtol=1e-12)


def test_a_mean_is_refused_at_batch_size_1(model):
    """Alone, an observation is its own mean: N times too large."""
    (mean,) = batchhess.hessians(tf.reduce_mean(model.y), model.x)
    with pytest.raises(ValueError, match="it is another for observations 0 to 1"):
        model.evaluate(fetches=mean, batch_size=1)


@pytest.mark.parametrize("batch_size", range(1, 21))
def test_a_mean_is_refused_at_every_batch_size(batch_size, random):
    """Whether or not the last batch is whole."""
    x = tf.placeholder(tf.float64, [None, 2])
    (mean,) = batchhess.hessians(tf.reduce_mean(tf.reduce_sum(x**3, 1)), x)
    for count in (2 * batch_size, 3 * batch_size, 3 * batch_size + 1):
        with tf.Session() as session, pytest.raises(ValueError, match="depends on the"):
            feed = {x: random.randn(count, 2)}
            batchhess.evaluate(session, mean, feed, [x], batch_size=batch_size)


@pytest.mark.parametrize("fixed, count", [(1, 1), (1, 4), (4, 1), (4, 5), (4, 9)])
@pytest.mark.parametrize("kind", ["random", "counted"])
def test_a_single_observation_of_a_fixed_number_is_run_once_more(
    kind, fixed, count, random
):
    model = Model(random, fixed=fixed, count=count)
    runs = tf.get_variable("runs", initializer=np.float64(0))
    y = {
        "random": lambda: model.y + tf.random_uniform([], dtype=tf.float64),
        "counted": lambda: model.y + tf.assign_add(runs, 1.0),
    }[kind]()
    with tf.Session() as session:
        session.run(runs.initializer)
        given = session, y, model.feed, [model.x, model.w]
        with pytest.raises(ValueError, match="once more: it is|if it is random"):
            batchhess.evaluate(*given, batch_size=fixed)
    found = model.evaluate(batch_size=fixed)
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)


def test_a_last_observation_alone_is_held_against_another_of_a_fixed_number(random):
    model = Model(random, fixed=4, count=5)
    model.feed["w:0"][:4] = 1
    coupled = tf.cond(
        tf.reduce_min(model.w) > 1, lambda: model.y[::-1] * 2, lambda: model.y
    )
    model.feed["w:0"][4] = 2
    with pytest.raises(ValueError, match="it is another for observations 4 to 5"):
        model.evaluate(fetches=coupled, batch_size=4)


def test_a_mean_is_refused_in_a_graph_of_a_fixed_number(random):
    model = Model(random, fixed=5)
    (mean,) = batchhess.hessians(tf.reduce_mean(model.y), model.x)
    with pytest.raises(ValueError, match="of 5 observations, and '.*Mean' is a mean"):
        model.evaluate(fetches=mean)
    found = model.evaluate(fetches=mean, check="never")
    np.testing.assert_allclose(found, model.hessians / 5, rtol=1e-12)


FIXED_MEANS = {
    "shape": lambda y: tf.reduce_sum(y) / tf.cast(tf.shape(y)[0], tf.float64),
    "size": lambda y: tf.reduce_sum(y) / tf.cast(tf.size(y), tf.float64),
    "no_nan": lambda y: tf.div_no_nan(y, tf.cast(tf.shape(y)[0], tf.float64)),
    "inverse": lambda y: y * (1 / tf.cast(tf.shape(y)[:1], tf.float64)),
    "less_one": lambda y: tf.reduce_sum(y) / tf.cast(tf.shape(y)[0] - 1, tf.float64),
    "loss": lambda y: tf.losses.compute_weighted_loss(y),
    "loss_of_size": lambda y: tf.losses.compute_weighted_loss(
        y, reduction=tf.losses.Reduction.SUM_OVER_BATCH_SIZE
    ),
    "segments": lambda y: tf.segment_mean(y, tf.constant([0, 0, 1, 1, 1])),
}


@pytest.mark.parametrize("kind", sorted(FIXED_MEANS))
def test_a_division_by_a_fixed_number_of_observations_is_refused(kind, random):
    model = Model(random, fixed=5)
    f = FIXED_MEANS[kind](model.y)
    if kind == "segments":  # Its second derivative is TensorFlow's own affair.
        fetches = tf.gather(f, [0, 0, 1, 1, 1])
    else:
        (fetches,) = batchhess.hessians(f, model.x)
    with pytest.raises(ValueError, match="of 5 observations, and '.*' is a mean over"):
        model.evaluate(fetches=fetches)


def test_means_of_other_things_than_observations_are_none(random):
    """Of weights, as many as observations; and divisions by other sizes."""
    model = Model(random, fixed=5)
    weights = tf.constant(np.arange(15.0).reshape(5, 3))
    factor = tf.reduce_mean(weights, 0) + tf.reduce_mean(weights)  # 13, 14, 15.
    y = tf.reduce_mean(model.x**3 * factor, 1) + tf.reduce_sum(model.x**3, 1) / tf.cast(
        tf.shape(model.x)[1], tf.float64
    )
    (hessian,) = batchhess.hessians(y, model.x)
    found = model.evaluate(fetches=hessian)
    diagonal = 2 * model.feed[model.x] * [14.0, 15, 16]
    np.testing.assert_allclose(found, diagonal[:, :, None] * np.eye(3), rtol=1e-12)


def test_company_is_refused_in_a_graph_of_a_fixed_number(random):
    model = Model(random, fixed=5)
    with pytest.raises(ValueError, match="depends on the others in its batch"):
        model.evaluate(fetches=model.y - tf.reduce_max(model.y))


@pytest.mark.parametrize("largest", [0, 5])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: tf.reduce_sum(x**3 * tf.stop_gradient(tf.reduce_max(x))),
        lambda x: tf.where(tf.reduce_any(x > 1), tf.reduce_sum(x**3), tf.norm(x) ** 2),
    ],
    ids=["largest", "any"],
)
def test_what_the_largest_of_a_batch_decides_is_refused(f, batch_size, largest, random):
    x = tf.placeholder(tf.float64, [None, 2])
    (hessian,) = batchhess.hessians(f(x), x)
    value = np.abs(random.randn(7, 2)) / 9
    value[largest] = 2
    with tf.Session() as session, pytest.raises(ValueError, match="depends on the oth"):
        batchhess.evaluate(
            session, [hessian], {x: value}, batched=[x], batch_size=batch_size
        )


@pytest.mark.parametrize("batch_size", [8, 16])
def test_a_large_observation_hides_no_company_of_others(batch_size, random):
    x = tf.placeholder(tf.float32, [None, 3])
    value = random.randn(64, 3)
    value[:, 1] += np.arange(64) / 8
    value[3, 0] = 1e5
    mean = x**2 - tf.reduce_mean(x[:, 1])
    with tf.Session() as session, pytest.raises(ValueError, match="depends on the oth"):
        batchhess.evaluate(session, mean, {x: value}, [x], batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 5, 16, 64])
def test_what_has_cancelled_to_rounding_is_no_other(batch_size, random):
    """A Hessian that is zero for half of the observations, but for rounding."""
    x, w = tf.placeholder(tf.float32, [None, 6]), random.randn(6, 32)
    z = tf.matmul(x, tf.constant(w, tf.float32))
    linear = tf.reduce_sum(tf.nn.softplus(z) - tf.nn.softplus(-z), 1)
    f = tf.where(x[:, 0] > 0, linear, 10 * tf.reduce_sum(tf.tanh(z), 1))
    (hessian,) = batchhess.hessians(f, x)
    value = random.randn(64, 6)
    with tf.Session() as session:
        found = batchhess.evaluate(
            session, hessian, {x: value}, [x], batch_size=batch_size
        )
    sizes = np.abs(found).max((1, 2))
    assert np.any((sizes > 0) & (sizes < 1e-4)) and np.any(sizes > 1)


@pytest.mark.parametrize("batch_size", [5, 16, 64])
def test_rounding_of_what_is_nearly_certain_is_no_other(batch_size):
    """Most are zero but for rounding, some of them large: no others tell how large."""
    random = np.random.RandomState(0)
    x, w = tf.placeholder(tf.float32, [None, 6]), random.randn(6, 32)
    z = tf.matmul(x, tf.constant(30 * w, tf.float32))
    (hessian,) = batchhess.hessians(tf.reduce_logsumexp(z, 1), x)
    value = random.randn(200, 6)
    with tf.Session() as session:
        found = batchhess.evaluate(
            session, hessian, {x: value}, [x], batch_size=batch_size
        )
    sizes = np.abs(found).max((1, 2))
    assert np.mean(sizes < 0.1) > 0.3 and sizes.max() > 100


@pytest.mark.parametrize("batch_size", [1, 3, 5, 7, 16])
def test_an_order_that_is_turned_round_is_refused(batch_size, random):
    model = Model(random)
    with pytest.raises(ValueError, match="depends on the others in its batch"):
        model.evaluate(fetches=tf.reverse(model.x, [0]), batch_size=batch_size)


def test_company_that_only_a_later_batch_shows_is_refused(random):
    model = Model(random, count=200)
    model.feed["w:0"][:] = 1
    model.feed["w:0"][150] = 9
    coupled = model.y * tf.cond(
        tf.reduce_max(model.w) > 5,
        lambda: tf.reduce_mean(model.w),
        lambda: tf.constant(1.0, tf.float64),
    )
    with pytest.raises(ValueError, match="it is another for observation 143"):
        model.evaluate(fetches=coupled, batch_size=16)


def test_what_the_dtype_cannot_hold_is_refused(random):
    x = tf.placeholder(tf.float32, [None, 2], name="x32")
    ids = tf.placeholder(tf.int32, [None], name="ids")
    y = tf.reduce_sum(x, 1) + tf.cast(ids, tf.float32)
    good = {x: random.randn(9, 2), ids: np.arange(9)}
    for key, value, error, words in (
        (ids, np.linspace(0, 1, 9), TypeError, "'ids:0' is int32, and .* is float64"),
        (ids, np.arange(9) + 2**32, ValueError, "hold 4294967300, .* observation 4"),
        (x, np.full((9, 2), 1e300), ValueError, "1e[+]300, .* observation 4, column 0"),
        (x, np.full((9, 2), 2**32 + 1), ValueError, "cannot hold 4294967297"),
        (x, np.full((9, 2), 1j), TypeError, "what is fed for it is complex128"),
        (x, np.full((9, 2), "a"), TypeError, "what is fed for it is <U1"),
    ):
        value = value.copy()
        if error is ValueError:
            value[:4] = 0
        with tf.Session() as session, pytest.raises(error, match=words):
            feed = {**good, key: value}
            batchhess.evaluate(session, y, feed, [x, ids], batch_size=3)
    with tf.Session() as session:
        found = batchhess.evaluate(session, y, good, [x, ids], batch_size=3)
    np.testing.assert_allclose(found, good[x].sum(1) + good[ids], rtol=1e-5)


def test_nan_is_told_by_observation(model):
    model.feed["w:0"][[12, 17]] = np.nan
    with pytest.raises(ValueError, match="fed for 'w:0' is NaN or Inf at .* 12"):
        model.evaluate(fetches=model.y, on_nonfinite="error")
    root = tf.sqrt(model.x[:, 0], "root")
    negative = np.flatnonzero(model.feed[model.x][:, 0] < 0)[0]
    model.feed["w:0"][:] = 1
    words = "'root:0' is NaN or Inf at observations {}".format(negative)
    with pytest.raises(ValueError, match=words):
        model.evaluate(fetches=root, on_nonfinite="error")
    model.feed["w:0"][[12, 17]] = np.nan
    kept = model.evaluate(fetches=model.y)
    assert np.flatnonzero(np.isnan(kept)).tolist() == [12, 17]


def test_outputs_have_the_names_that_their_caller_gave(model, tmp_path):
    y, (hessian,) = model.y, model.fetches.hessians
    for fetches, names in (
        ({"H": hessian, "deep": {"a b": y}}, ["H.npy", "deep_a_b.npy"]),
        (hessian, ["derivatives.npy"]),
        ([tf.identity(y, "scope/f")], ["scope_f.npy"]),
        ({"H": y, "h": y}, ["H_0.npy", "h_1.npy"]),
    ):
        out = tmp_path / names[0]
        model.evaluate(fetches=fetches, out=out)
        assert sorted(path.name for path in out.glob("*.npy")) == names


def test_random_answers_may_pass(model):
    noise = model.y * tf.random_uniform(tf.shape(model.y), 1, 2, tf.float64)
    with pytest.raises(ValueError, match="check='never' if it is random"):
        model.evaluate(fetches=noise)
    assert model.evaluate(fetches=noise, check="never").shape == (23,)


@pytest.mark.parametrize("kind", ["random", "dropout", "counted"])
def test_all_in_one_batch_is_run_once_more(model, kind):
    count = tf.get_variable("count", initializer=np.float64(0))
    y = {
        "random": lambda: model.y + tf.random_uniform([], dtype=tf.float64),
        "dropout": lambda: tf.nn.dropout(model.y, rate=0.5, seed=7),
        "counted": lambda: model.y + tf.assign_add(count, 1.0),
    }[kind]()
    with tf.Session() as session:
        session.run(count.initializer)
        given = session, y, model.feed, [model.x, model.w]
        with pytest.raises(ValueError, match="is another where the same .* once more"):
            batchhess.evaluate(*given)
        assert batchhess.evaluate(*given, check="never").shape == (23,)


def test_progress_may_be_left_to_the_library(model, capsys, monkeypatch):
    model.evaluate(progress=True)
    assert "23 of 23 (100%)" in capsys.readouterr().err
    bars = []

    class Bar:
        def __init__(self, total, initial, **options):
            self.total, self.n, self.closed = total, initial, False
            bars.append(self)

        def update(self, more):
            self.n += more

        def close(self):
            self.closed = True

    fake = types.ModuleType("tqdm.auto")
    fake.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", fake)
    monkeypatch.setitem(sys.modules, "tqdm.auto", fake)
    ipython = types.ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    ipython.get_ipython = lambda: types.SimpleNamespace()  # A terminal's.
    model.evaluate(progress=True)
    assert "23 of 23 (100%)" in capsys.readouterr().err and not bars
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=fake)
    model.evaluate(progress=True)
    (bar,) = bars
    assert bar.n == bar.total == 23 and bar.closed


def test_derivatives_read_as_lines(model):
    lines = repr(model.fetches).splitlines()
    assert model.fetches.gradients[0].name in lines[1] and "float64" in lines[1]
    found = repr(model.evaluate()).splitlines()
    assert found[1] == "gradients: ndarray float64 (23, 3)"
    assert [line.partition(":")[0] for line in lines] == list(model.fetches._fields)


class Words:
    """x times the length of a word of each, of one more, and of a variable."""

    def __init__(self):
        self.x = tf.placeholder(tf.float64, [None], name="x")
        self.each = tf.placeholder(tf.string, [None], name="each")
        self.all = tf.placeholder(tf.string, [None], name="all")
        self.variables = [
            tf.get_variable("v{}".format(len(shape)), shape, tf.string)
            for shape in ([], [2])
        ]
        lengths = [tf.reduce_sum(tf.strings.length(v)) for v in self.variables]
        lengths += [tf.strings.length(self.each), tf.strings.length(self.all)[0]]
        self.y = self.x * tf.cast(sum(lengths), tf.float64)

    def evaluate(self, each, whole, variables, **options):
        feed = {self.x: np.ones(len(each)), self.each: each, self.all: whole}
        with tf.Session() as session:
            for variable, value in zip(self.variables, variables):
                session.run(variable.assign(np.array(value, object)))
            options.update(batched=[self.x, self.each], batch_size=2)
            return batchhess.evaluate(session, self.y, feed, **options)


def test_text_is_known_again_by_its_words(tmp_path):
    """Not by how they are stored, or printed."""
    words = Words()
    each, whole = ["red", "blue", "", "a", "b", "c"] * 2, ["w"] * 3000
    given = each, whole, ["name", ["p", "q"]]
    with pytest.raises(StoppedError):
        words.evaluate(*given, out=tmp_path, progress=stopping_after(2))
    for other, error in (
        (
            (each, whole[:1500] + ["W"] + whole[1501:], given[2]),
            "another value that is fed",
        ),
        ((each, whole, ["nama", ["p", "q"]]), "another"),
        ((each, whole, ["name", ["p", "Q"]]), "another"),
        ((["rad"] + each[1:], whole, given[2]), "other data"),
        ((["re", "dblue"] + each[2:], whole, given[2]), "other data"),
    ):
        with pytest.raises(ValueError, match=error):
            words.evaluate(*other, out=tmp_path, resume=True)
    kinds = "U6", "U9", "S9", object
    for kind in kinds:
        options = {"resume": True, "out": tmp_path, "progress": stopping_after(2)}
        with pytest.raises(StoppedError):
            stored = np.array(each, kind), np.array(whole, kind)
            words.evaluate(*stored, given[2], **options)
    found = words.evaluate(*given, out=tmp_path, resume=True)
    assert found.tolist() == [len(word) + 7 for word in each]
