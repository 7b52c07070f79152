"""What is fed is the number that was given, or it is refused."""

import warnings

import numpy as np
import pytest

import batchhess
from batchhess.casting import cast
from batchhess.cli import main
from batchhess.compat import tf


@pytest.mark.parametrize(
    "value, dtype",
    [
        (2**32 + 1, tf.int32),
        (1.7, tf.int32),
        (300, tf.uint8),
        (-1, tf.uint8),
        (2, tf.bool),
        (0.5, tf.bool),
        ([1, 2, 3 + 1j], tf.float32),
        (2**24 + 1, tf.float32),
        (1e300, tf.float32),
        ("3", tf.int32),
    ],
)
def test_another_number_is_refused_wherever_it_is_fed(value, dtype):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    n = tf.placeholder(dtype, np.shape(value), name="n")
    fed = {x: np.ones((3, 2)), n: value}
    fetch = x * tf.reduce_sum(tf.cast(n, tf.float64))
    with tf.Session() as session, pytest.raises((TypeError, ValueError), match="'n:0'"):
        batchhess.evaluate(session, fetch, fed, [x])


@pytest.mark.parametrize(
    "value, dtype, expected",
    [
        (True, tf.bool, True),
        (0, tf.bool, False),
        (7, tf.uint8, 7),
        (0.1, tf.float32, np.float32(0.1)),
        (2**24, tf.float32, 2.0**24),
        (np.uint8(255), tf.float32, 255),
        (np.int8([-128, 127]), tf.float16, [-128, 127]),
        (np.int32(2**31 - 1), tf.float64, 2**31 - 1),
        (np.uint16([65535]), tf.complex64, [65535]),
    ],
)
def test_the_same_number_is_fed(value, dtype, expected):
    tensor = tf.placeholder(dtype, np.shape(value), name="n")
    found = cast(np.asarray(value), tensor)
    assert np.all(found == expected) and found.dtype == tensor.dtype.as_numpy_dtype


@pytest.mark.parametrize("largest", [np.int64(2**63 - 1), np.uint64(2**64 - 1)])
def test_the_largest_integers_are_no_floats(largest):
    with pytest.raises(ValueError, match="cannot hold"):
        cast(np.asarray(largest), tf.placeholder(tf.float64, []))


def test_halves_of_bfloat16_are_no_integers():
    value = np.asarray([1.5]).astype(tf.bfloat16.as_numpy_dtype)
    for dtype in (tf.int32, tf.bool):
        with pytest.raises(TypeError, match="it cannot hold that"):
            cast(value, tf.placeholder(dtype, [1]))


def test_bytes_keep_their_zeros(random):
    x = tf.placeholder(tf.float64, [None])
    one, each = tf.placeholder(tf.string, []), tf.placeholder(tf.string, [None])
    lengths = tf.strings.length(one) + 10 * tf.strings.length(each)
    fed = {x: [1.0, 1.0], one: b"ab\0\0", each: [b"ab\0\0", b"abcde"]}
    with tf.Session() as session:
        fetch = x * tf.cast(lengths, tf.float64)
        found = batchhess.evaluate(session, fetch, fed, [x, each])
    np.testing.assert_array_equal(found, [44, 54])


@pytest.mark.parametrize("missing", [None, np.nan, 3])
def test_what_is_no_word_is_told_by_its_observation(missing):
    x = tf.placeholder(tf.float64, [None])
    each = tf.placeholder(tf.string, [None], name="each")
    every = tf.placeholder(tf.string, [None], name="every")
    lengths = tf.strings.length(each) + tf.strings.length(every)[0]
    fetch = x * tf.cast(lengths, tf.float64)
    good, bad = np.array(["a"] * 5, object), np.array(["a"] * 5, object)
    bad[3] = missing
    for words, one, whole in (
        ("'each:0' is string, and .* hold {!r}, .* at observation 3", bad, good),
        ("'every:0' is string, and .* hold {!r}, .* for it at \\[3\\]", good, bad),
    ):
        with tf.Session() as session:
            with pytest.raises(ValueError, match=words.format(missing)):
                fed = {x: np.ones(5), each: one, every: whole}
                batchhess.evaluate(session, fetch, fed, [x, each], batch_size=2)


@pytest.mark.parametrize("value", [1, 2.5, np.float32(1), np.int8(-3), 1j])
def test_complex_numbers_take_real_ones_without_a_warning(value):
    tensor = tf.placeholder(tf.complex64, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cast(np.asarray(value), tensor) == np.complex64(value)
    with pytest.raises(ValueError, match="cannot hold"):
        cast(np.asarray(1e300), tensor)


def test_a_sparse_value_is_fed_as_it_is(tmp_path):
    x, s = tf.placeholder(tf.float64, [None, 2]), tf.sparse.placeholder(tf.float64)
    value = tf.SparseTensorValue([[0, 1]], [2.0], [1, 3])
    fetch = x * tf.reduce_sum(s.values)
    with tf.Session() as session:
        found = batchhess.evaluate(
            session,
            fetch,
            {x: np.ones((3, 2)), s: value},
            [x],
            on_nonfinite="error",
            out=str(tmp_path / "out"),
        )
    np.testing.assert_array_equal(found, np.full((3, 2), 2.0))


class OneBuffer:
    """Rows of 0, 1, 2 ... that are read into one buffer again and again."""

    shape, dtype = (40, 2), np.dtype("float64")

    def __init__(self):
        self._buffer = np.zeros((40, 2))

    def __getitem__(self, index):
        (rows,) = index
        part = self._buffer[: len(range(40)[rows])]
        part[:] = np.arange(40.0)[rows, None]
        return part


def test_what_is_fetched_as_it_was_fed_is_written_as_it_was(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2])
    with tf.Session() as session:
        found = batchhess.evaluate(
            session, x, {x: OneBuffer()}, [x], batch_size=8, out=tmp_path, check="never"
        )
    np.testing.assert_array_equal(found, np.arange(40.0)[:, None] * [1, 1])


@pytest.mark.parametrize("count", [2, 3])
def test_a_graph_of_more_observations_than_are_fed(count):
    x = tf.placeholder(tf.float64, [4, 1])
    fed = {x: np.arange(1.0, count + 1)[:, None]}
    for fetch in (x - tf.reduce_mean(x, 0), x - tf.reduce_sum(x, 0)):
        with tf.Session() as session, pytest.raises(ValueError):
            batchhess.evaluate(session, fetch, fed, [x], batch_size=4)


def test_nan_that_is_fed_with_all_observations_is_told():
    x, n = (
        tf.placeholder(tf.float64, s, name=t) for s, t in (([None, 2], "x"), ([], "n"))
    )
    fed, fetch = {x: np.ones((3, 2)), n: np.nan}, tf.where(n > 0, x, 2 * x)
    with tf.Session() as session:
        with pytest.raises(ValueError, match="'n:0' holds NaN or Inf"):
            batchhess.evaluate(session, fetch, fed, [x], on_nonfinite="error")
        assert np.all(batchhess.evaluate(session, fetch, fed, [x]) == 2)


COUPLED = {
    "those before": lambda x: tf.cumsum(x, 0),
    "those after": lambda x: tf.cumsum(x, 0, reverse=True),
    "the first": lambda x: x[:1],
    "the last": lambda x: x[-1:],
    "the one before": lambda x: tf.concat([x[:1], x[:-1]], 0),
    "its place": lambda x: tf.cast(tf.range(tf.shape(x)[0])[:, None], x.dtype),
    "their number": lambda x: tf.cast(tf.shape(x)[0], x.dtype),
}


@pytest.mark.parametrize("batch_size", [1, 2, 8, 15, 16])
@pytest.mark.parametrize("name", sorted(COUPLED))
def test_what_depends_on_its_company_is_refused(name, batch_size, random):
    x = tf.placeholder(tf.float64, [None, 3])
    fetch = x**2 * COUPLED[name](x)
    with tf.Session() as session, pytest.raises(ValueError, match="depends on the oth"):
        batchhess.evaluate(
            session, fetch, {x: random.rand(40, 3)}, [x], batch_size=batch_size
        )


@pytest.mark.parametrize("to_directory", [False, True])
def test_results_of_several_shapes_are_refused(to_directory, tmp_path):
    x = tf.placeholder(tf.float64, [None, 3])
    width = tf.cast(tf.reduce_max(x), tf.int32)
    value = np.ones((24, 3))
    value[:8] = 3
    with tf.Session() as session, pytest.raises(
        ValueError, match="results need one sh"
    ):
        batchhess.evaluate(
            session,
            x[:, :width],
            {x: value},
            [x],
            batch_size=8,
            check="never",
            out=str(tmp_path / "out") if to_directory else None,
        )


@pytest.fixture
def frozen(tmp_path):
    """A frozen graph that takes x, n and a scale of 2; and a file for x."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 3], name="x")
        n = tf.placeholder_with_default(tf.constant(1), [], name="n")
        scale = tf.placeholder_with_default(tf.constant(2.0, tf.float64), [], name="s")
        tf.multiply(scale * tf.cast(n, tf.float64), tf.reduce_sum(x**3, 1), name="f")
        tf.reduce_sum(tf.sin(1e8 * x), 1, name="wild")
        (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((4, 3)))
    np.save(str(tmp_path / "complex.npy"), np.ones((4, 3), complex))
    return tmp_path


def command(frozen, name, *rest):
    feeds = [part.replace("DIR", str(frozen)) for part in rest]
    return main([name, str(frozen / "m.pb"), "--xs", "x"] + feeds)


def run(frozen, *rest):
    status = command(frozen, "run", "--out", str(frozen / "out"), *rest)
    return status, status or np.load(str(frozen / "out" / "hessians.npy"))[0, 0, 0]


def test_each_feed_of_the_command_counts(frozen, capsys):
    status, found = run(
        frozen, "--ys", "f", "--feed", "s=10", "--feed", "x=DIR/x.npy", "n=3"
    )
    assert status == 0 and found == 180
    assert run(frozen, "--ys", "f", "--feed", "s=1", "s=2", "x=DIR/x.npy")[0] == 1
    assert "'s:0' is fed twice" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "verify"])
@pytest.mark.parametrize(
    "feed, words",
    [
        ("x=DIR/complex.npy", "it cannot hold that"),
        ("x=3", "has shape (), and no axis 0 of observations"),
        ("n=1.7", "'n:0' is int32, and 1.7 is not written as an integer"),
    ],
)
def test_both_commands_refuse_it(frozen, capsys, name, feed, words):
    feeds = [feed] if feed[0] == "x" else ["x=DIR/x.npy", feed]
    out = ["--out", str(frozen / "out")] if name == "run" else []
    assert command(frozen, name, "--ys", "f", *out, "--feed", *feeds) == 1
    assert words in capsys.readouterr().err


def test_verify_says_where_nothing_could_be_told(frozen, capsys):
    assert command(frozen, "verify", "--ys", "wild", "--feed", "x=DIR/x.npy") == 1
    told = capsys.readouterr().out
    assert "4 of 4 observations" in told and "nothing was checked" in told
    assert "right" not in told


def test_what_has_too_few_rows_is_told(tmp_path, capsys):
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    labels = tf.placeholder(tf.float32, [None], name="labels")
    tf.reduce_sum(x**3 * tf.reduce_sum(labels), name="f")
    graph = x.graph.as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((6, 3)))
    np.save(str(tmp_path / "labels.npy"), np.ones(3))
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x", "--feed"]
    given += ["{}={}/{}.npy".format(name, tmp_path, name) for name in ("x", "labels")]
    for command in (["verify"], ["run", "--out", str(tmp_path / "out")]):
        assert main(command[:1] + given + command[1:]) == 1
        assert "'labels:0' has 3 rows and 'x:0' 6: if" in capsys.readouterr().err
        whole = ["--batched", "x"]
        assert main(command[:1] + given + command[1:] + whole) == 0


def test_a_pipeline_that_is_fed_by_half_is_told(tmp_path, capsys):
    data = tf.data.Dataset.from_tensor_slices((np.zeros((8, 3)), np.ones(8))).batch(4)
    x, w = tf.data.make_one_shot_iterator(data).get_next()
    tf.multiply(tf.reduce_sum(x**3, 1), w, name="f")
    graph = x.graph.as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((5, 3)))
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", x.name]
    given += ["--feed", "{}={}".format(x.name, tmp_path / "x.npy")]
    for command in (["verify"], ["run", "--out", str(tmp_path / "out")]):
        assert main(command[:1] + given + command[1:]) == 1
        assert "nothing is fed for '{}'".format(w.name) in capsys.readouterr().err
    np.save(str(tmp_path / "w.npy"), np.ones(5))
    more = "{}={}".format(w.name, tmp_path / "w.npy")
    assert main(["verify"] + given + [more]) == 0


def test_an_axis_that_is_counted_from_the_end(tmp_path, random, capsys):
    x = tf.placeholder(tf.float64, [3, None], name="x")
    tf.reduce_sum(x**3, name="f")
    graph = x.graph.as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    value = random.randn(3, 7)
    np.save(str(tmp_path / "x.npy"), value)
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x", "--batch-axis", "-1"]
    given += ["--feed", "x={}".format(tmp_path / "x.npy")]
    out = ["--out", str(tmp_path / "out"), "--verify", "--batch-size", "2"]
    assert main(["run"] + given + out) == 0
    found = np.load(str(tmp_path / "out" / "hessians.npy"))
    np.testing.assert_allclose(found, 6 * value.T[:, :, None] * np.eye(3), rtol=1e-12)
    given[given.index("-1")] = "-3"
    assert main(["verify"] + given) == 1
    assert "has shape (3, 7), and no axis -3" in capsys.readouterr().err
