"""evaluate: the answers of one run, batch by batch, and what is left of a stop."""

import json
import os

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
    assert files[-1] == "progress.json" and len(files) == 4
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)
    kept = np.load(str(tmp_path / "new" / "results" / files[2]))
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


def test_results_of_another_model_are_not_gone_on_with(model, tmp_path):
    with pytest.raises(StoppedError):
        model.evaluate(out=tmp_path, progress=stopping_after(10))
    other = dict(model.feed, **{"w:0": model.feed["w:0"] + 1e-3})
    with pytest.raises(ValueError, match="of another model or other data: .* 5 to 10"):
        model.evaluate(out=tmp_path, resume=True, feed=other)
    fewer = {k: v[:20] if np.ndim(v) else v for k, v in model.feed.items()}
    with pytest.raises(ValueError, match="holds results of .*23.*, not of .*20"):
        model.evaluate(out=tmp_path, resume=True, feed=fewer)
    with pytest.raises(ValueError, match="holds results of "):
        model.evaluate(out=tmp_path, resume=True, fetches=[model.fetches.hessians[0]])


def test_a_stop_between_the_data_and_the_note_loses_nothing(model, tmp_path):
    """The note is of the batch before: that one is written again."""
    with pytest.raises(StoppedError):
        model.evaluate(out=tmp_path, progress=stopping_after(15))
    note = json.loads((tmp_path / "progress.json").read_text())
    (tmp_path / "progress.json").write_text(json.dumps(dict(note, done=10)))
    found = model.evaluate(out=tmp_path, resume=True)
    np.testing.assert_allclose(found.hessians[0], model.hessians, rtol=1e-12)
    assert not os.path.exists(str(tmp_path / "progress.json.new"))


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
    for options, error, words in (
        ({"batched": []}, ValueError, "batched names nothing"),
        ({"batched": ["z:0"]}, ValueError, r"batched names \['z:0'\], and feed_dict"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, not positive"),
        ({"batch_size": 2.5}, TypeError, "batch_size is 2.5, no int"),
        ({"fetches": ["x:0"]}, TypeError, "fetches hold 'x:0', no tf.Tensor"),
        ({"resume": True}, ValueError, "resume=True needs a directory"),
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
    with pytest.raises(ValueError, match="where there are 5 or 2 of them. Take a sum"):
        model.evaluate(fetches=mean)
    whole = model.evaluate(fetches=mean, batch_size=23)
    np.testing.assert_allclose(whole, model.hessians / 23, rtol=1e-12)


def test_random_answers_may_pass(model):
    noise = model.y * tf.random_uniform(tf.shape(model.y), 1, 2, tf.float64)
    with pytest.raises(ValueError, match="check='never' if it is random"):
        model.evaluate(fetches=noise)
    assert model.evaluate(fetches=noise, check="never").shape == (23,)
