"""Apache Beam: the numbers of a local run, whichever worker computes them."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("apache_beam")

import apache_beam
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that

from batchhess.beam import HessianModelHandler
from batchhess.cli import main
from batchhess.compat import tf
from batchhess.pipeline import read_shards

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL = os.path.join(ROOT, "tests", "data", "models", "tf1", "saved_v1")


def truth(x):
    """The Hessian of sum(w x**3), w = 1, 2, 3, of one observation."""
    return 6 * np.diag(np.arange(1.0, 4) * x)


def test_run_inference_answers_by_key(random):
    value = random.randn(50, 3).astype("float32")

    def check(found):
        assert sorted(key for key, _ in found) == list(range(50))
        for key, result in found:
            np.testing.assert_allclose(
                result.inference["hessians"], truth(value[key]), rtol=1e-5
            )

    handler = HessianModelHandler(MODEL, ["f"], ["x"], max_batch_size=7)
    with apache_beam.Pipeline() as pipeline:
        found = (
            pipeline
            | apache_beam.Create(list(enumerate(value)))
            | RunInference(KeyedModelHandler(handler))
        )
        assert_that(found, check)


def test_what_depends_on_the_batch_is_refused(tmp_path):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        tf.reduce_mean(x**3, name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    handler = HessianModelHandler(str(tmp_path / "m.meta"), ["f"], ["x"])
    loaded = handler.load_model()
    for size in (1, 4):
        with pytest.raises(ValueError, match="depends on the others in its batch"):
            list(handler.run_inference([np.ones(3, "float32")] * size, loaded))


def test_what_only_later_batches_show_is_refused(tmp_path):
    """The first are of one element, and have no company."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        largest = tf.stop_gradient(tf.reduce_max(x))
        tf.reduce_sum(x**3 * largest, name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    for place in range(4):  # Wherever the largest is.
        handler = HessianModelHandler(str(tmp_path / "m.meta"), ["f"], ["x"])
        loaded = handler.load_model()
        for _ in range(20):
            list(handler.run_inference([np.ones(3, "float32")], loaded))
        batch = [np.ones(3, "float32")] * 4
        batch[place] = np.full(3, 2, "float32")
        with pytest.raises(ValueError, match="depends on the others in its batch"):
            list(handler.run_inference(batch, loaded))
        loaded.model.close()


def test_a_mean_of_a_fixed_number_is_refused(tmp_path):
    for name, f in (("mean", tf.reduce_mean), ("sum", tf.reduce_sum)):
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [4, 3], name="x")
            f(tf.reduce_sum(x**3, 1), name="f")
            path = str(tmp_path / (name + ".meta"))
            tf.train.export_meta_graph(path, graph=graph)
    bad = HessianModelHandler(str(tmp_path / "mean.meta"), ["f"], ["x"])
    with pytest.raises(ValueError, match="of 4 observations, .* Take a sum.$"):
        bad.load_model()
    good = HessianModelHandler(str(tmp_path / "sum.meta"), ["f"], ["x"])
    loaded = good.load_model()
    for size in (1, 2, 3, 4):
        batch = [np.full(3, row + 1, "float32") for row in range(size)]
        for row, result in enumerate(good.run_inference(batch, loaded)):
            found = result.inference["hessians"]
            np.testing.assert_allclose(found, 6 * (row + 1) * np.eye(3), rtol=1e-5)


def test_text_keeps_its_zeros(tmp_path):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None], name="x")
        word = tf.placeholder(tf.string, [None], name="word")
        one = tf.placeholder(tf.string, [None], name="one")
        length = tf.strings.length(word) + 10 * tf.strings.length(one)[0]
        tf.reduce_sum(x**3 * tf.cast(length, tf.float64), name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    for name, words in (("word", [b"ab\0", b"a\0\0\0"]), ("one", [b"c\0"])):
        with tf.python_io.TFRecordWriter(str(tmp_path / (name + ".tfrecord"))) as file:
            for w in words:
                example = tf.train.Example()
                example.features.feature[name].bytes_list.value.append(w)
                file.write(example.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones(2))
    arguments = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x", "--feed"]
    arguments += ["x={}/x.npy".format(tmp_path), "--batched", "word", "--feed"]
    arguments += ["{0}={1}/{0}.tfrecord".format(n, tmp_path) for n in ("word", "one")]
    out = str(tmp_path / "o")
    assert main(arguments + ["--out", out, "--runner", "DirectRunner"]) == 0
    found = np.ravel(read_shards(out, "hessians"))
    np.testing.assert_allclose(found, [6 * 23, 6 * 24], rtol=1e-12)


def test_failures_are_set_aside(random):
    value = [np.ones(3, "float32"), np.full(3, np.nan, "float32")]

    def one_good(found):
        assert [key for key, _ in found] == [0]

    def one_bad(found):
        assert len(found) == 1

    handler = HessianModelHandler(MODEL, ["f"], ["x"], max_batch_size=1)
    with apache_beam.Pipeline() as pipeline:
        good, bad = (
            pipeline
            | apache_beam.Create(list(enumerate(value)))
            | RunInference(KeyedModelHandler(handler)).with_exception_handling()
        )
        assert_that(good, one_good, label="good")
        assert_that(bad.failed_inferences, one_bad, label="bad")


class FailsOnce(HessianModelHandler):
    """Fails where a file is not there yet, and makes it."""

    def __init__(self, path):
        super().__init__(MODEL, ["f"], ["x"], max_batch_size=7)
        self._flag = path

    def run_inference(self, batch, model, inference_args=None):
        if not os.path.exists(self._flag):
            open(self._flag, "w").close()
            raise RuntimeError("a machine is lost")
        return super().run_inference(batch, model, inference_args)


def test_a_bundle_that_fails_is_tried_again(tmp_path, random):
    value = random.randn(50, 3).astype("float32")

    def check(found):
        assert sorted(key for key, _ in found) == list(range(50))
        for key, result in found:
            np.testing.assert_allclose(
                result.inference["hessians"], truth(value[key]), rtol=1e-5
            )

    handler = KeyedModelHandler(FailsOnce(str(tmp_path / "failed")))
    with apache_beam.Pipeline(runner="BundleBasedDirectRunner") as pipeline:
        elements = pipeline | apache_beam.Create(list(enumerate(value)))
        assert_that(elements | RunInference(handler), check)
    assert (tmp_path / "failed").exists()


def test_text_and_a_number_for_each_observation(tmp_path):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        colour = tf.placeholder(tf.string, [None], name="colour")
        weight = tf.placeholder(tf.float64, [None], name="weight")
        is_red = tf.cast(tf.equal(colour, "red"), tf.float64)
        tf.reduce_sum(x**3 * (is_red * weight)[:, None], name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    data = tmp_path / "d.csv"
    data.write_text("a,b,colour\n1,2,red\n3,4,blue\n5,6,red\n")
    arguments = [str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x", "--feed"]
    arguments += ["x={}:a,b".format(data), "colour={}".format(data), "weight=0.5"]
    arguments += ["--batched", "colour", "weight"]
    out = str(tmp_path / "o")
    assert main(["run"] + arguments + ["--out", out, "--runner", "DirectRunner"]) == 0
    found = read_shards(out, "hessians")
    diagonal = np.array([[3.0, 6], [0, 0], [15, 18]])
    np.testing.assert_allclose(found, diagonal[:, :, None] * np.eye(2), rtol=1e-12)


def test_the_command_writes_what_a_local_run_writes(tmp_path, random):
    value = random.randn(9000, 3).astype("float32")
    np.save(str(tmp_path / "x.npy"), value)
    common = [MODEL, "--ys", "f", "--xs", "x", "--feed"]
    common += ["x={}".format(tmp_path / "x.npy")]
    assert main(["run"] + common + ["--out", str(tmp_path / "local")]) == 0
    command = [sys.executable, "-m", "batchhess", "run"] + common
    command += ["--out", str(tmp_path / "beam"), "--runner", "DirectRunner"]
    command += ["--direct_num_workers", "2"]
    command += ["--direct_running_mode", "multi_threading", "--verify"]
    told = subprocess.check_output(command, cwd=ROOT, universal_newlines=True)
    assert "a sample of 1,000 of 9,000 observations" in told
    assert told.endswith("what is written is what was verified\n")
    local = np.load(str(tmp_path / "local" / "hessians.npy"))
    found = read_shards(str(tmp_path / "beam"), "hessians")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, local, rtol=1e-6)
    rows = [0, 4096, 4095, 8999, 8999]
    some = read_shards(str(tmp_path / "beam"), "hessians", rows)
    np.testing.assert_array_equal(some, found[rows])
    with pytest.raises(IndexError, match="has no observation 9000"):
        read_shards(str(tmp_path / "beam"), "hessians", [3, 9000])
    with pytest.raises(ValueError, match="has the answers .'hessians'., and no 'd'"):
        read_shards(str(tmp_path / "beam"), "d")


def test_what_is_not_finite_is_told_by_its_values_and_leaves_no_obstacle(tmp_path):
    value = np.ones((20, 3), "float32")
    value[13] = [2, np.nan, 7]
    np.save(str(tmp_path / "x.npy"), value)
    command = [sys.executable, "-m", "batchhess", "run", MODEL, "--ys", "f"]
    command += ["--xs", "x", "--feed", "x={}".format(tmp_path / "x.npy")]
    command += ["--out", str(tmp_path / "beam"), "--runner", "DirectRunner"]
    command += ["--on-nonfinite", "error"]
    failed = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert "NaN or Inf for the observation {'x:0': [2.0, nan, 7.0]}" in failed.stderr
    assert subprocess.call(command[:-1] + ["keep"], cwd=ROOT) == 0
    found = read_shards(str(tmp_path / "beam"), "hessians")
    assert np.isfinite(found).all(axis=(1, 2)).sum() == 19
