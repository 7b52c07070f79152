"""A directory of results: stopped, damaged, contested, full, and never wrong."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import batchhess
from batchhess.compat import tf
from batchhess.streaming import storage

COUNT, BATCH = 40, 16


class Model:
    """w x**3, whose second derivative is 6 w x; w is a variable."""

    def __init__(self, random):
        self.x = tf.placeholder(tf.float64, [None, 2], name="x")
        self.w = tf.get_variable("w", initializer=np.full(2, 2.0))
        self.y = tf.reduce_sum(self.w * self.x**3)
        (self.hessians,) = batchhess.hessians(self.y, self.x)
        self.value = random.randn(COUNT, 2)
        self.truth = 12 * self.value[:, :, None] * np.eye(2)

    def evaluate(self, out, weight=None, value=None, **options):
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            if weight is not None:
                self.w.load(weight, session)
            value = self.value if value is None else value
            options.setdefault("batch_size", BATCH)
            return batchhess.evaluate(
                session,
                {"H": self.hessians},
                {self.x: value},
                [self.x],
                out=out,
                **options,
            )["H"]


class StoppedError(Exception):
    pass


def stop_after(stop):
    def progress(done, count):
        if done >= stop:
            raise StoppedError

    return progress


@pytest.fixture
def model(random):
    return Model(random)


@pytest.fixture
def stopped(model, tmp_path):
    """A directory with the first two batches of three."""
    with pytest.raises(StoppedError):
        model.evaluate(tmp_path, progress=stop_after(2 * BATCH))
    return tmp_path


def assert_whole(model, found, directory):
    np.testing.assert_allclose(found, model.truth, rtol=1e-12)
    np.testing.assert_array_equal(np.load(str(directory / "H.npy")), found)
    assert not list(directory.glob("*.partial"))


def test_nothing_has_its_final_name_before_it_is_whole(stopped):
    names = sorted(path.name for path in stopped.iterdir())
    assert names == [".lock", "H.npy.partial", "journal.jsonl"]


def test_a_damaged_batch_is_computed_again(model, stopped):
    path = stopped / "H.npy.partial"
    size = path.stat().st_size
    with open(str(path), "r+b") as file:
        file.seek(size - COUNT * 32 + 3 * 32)
        file.write(bytes(32))
    with pytest.warns(RuntimeWarning, match="computed again: observations 0 to 16"):
        found = model.evaluate(stopped, resume=True)
    assert_whole(model, found, stopped)


def test_each_of_several_results_is_checked(model, tmp_path):
    """Only the second file of a batch is damaged."""
    fetches, given = {"A": 3 * model.x, "H": model.hessians}, {model.x: model.value}
    options = {"out": tmp_path, "batch_size": BATCH}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with pytest.raises(StoppedError):
            stop = stop_after(2 * BATCH)
            batchhess.evaluate(
                session, fetches, given, [model.x], progress=stop, **options
            )
        path = tmp_path / "H.npy.partial"
        with open(str(path), "r+b") as file:
            file.seek(path.stat().st_size - COUNT * 32 + 3 * 32)
            file.write(bytes(32))
        with pytest.warns(RuntimeWarning, match="computed again: observations 0 to 16"):
            found = batchhess.evaluate(
                session, fetches, given, [model.x], resume=True, **options
            )
    np.testing.assert_allclose(found["H"], model.truth, rtol=1e-12)
    np.testing.assert_array_equal(found["A"], 3 * model.value)


def test_what_is_finished_is_checked_too(model, tmp_path):
    model.evaluate(tmp_path)
    array = np.load(str(tmp_path / "H.npy"), mmap_mode="r+")
    array[20] = 0
    array.flush()
    del array
    with pytest.warns(RuntimeWarning, match="computed again: observations 16 to 32"):
        found = model.evaluate(tmp_path, resume=True)
    assert_whole(model, found, tmp_path)


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_a_cut_journal_loses_its_last_batches_alone(model, stopped, cut):
    path = stopped / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    seen = []
    found = model.evaluate(
        stopped, resume=True, progress=lambda done, _: seen.append(done)
    )
    assert seen[0] <= 32 and seen[-1] == COUNT
    assert_whole(model, found, stopped)


@pytest.mark.parametrize("text", [b"", b"\n", b"[]", b"{}\n", b"null\n", b"\xff" * 9])
def test_a_journal_that_is_none_is_told_with_a_way_on(model, stopped, text):
    (stopped / "journal.jsonl").write_bytes(text)
    with pytest.raises(ValueError, match="journal.jsonl' is damaged.*Begin anew in"):
        model.evaluate(stopped, resume=True)
    assert (stopped / "H.npy.partial").exists()


def test_other_weights_are_refused(model, stopped):
    with pytest.raises(ValueError, match="another model, other weights"):
        model.evaluate(stopped, resume=True, weight=np.full(2, 2.0002))


def test_another_model_is_refused(model, stopped):
    (model.hessians,) = batchhess.hessians(model.y + 1e-4 * model.y, model.x)
    with pytest.raises(ValueError, match="another model, other weights"):
        model.evaluate(stopped, resume=True)


def test_the_same_model_built_anew_is_known(model, stopped, random):
    with tf.Graph().as_default():
        again = Model(np.random.RandomState(0))
        again.value, again.truth = model.value, model.truth
        assert_whole(again, again.evaluate(stopped, resume=True), stopped)


def test_another_method_or_answer_or_tensorflow_is_told(model, stopped, monkeypatch):
    (model.hessians,) = batchhess.hessians(model.y, model.x, method="observations")
    with pytest.raises(ValueError, match="or another method. Pass what they were"):
        model.evaluate(stopped, resume=True)
    monkeypatch.setattr(storage, "VERSION", "9.9")
    with pytest.raises(ValueError, match=r"method, or TensorFlow: [12][.0-9]* and 9.9"):
        model.evaluate(stopped, resume=True)
    with tf.Session() as session, pytest.raises(ValueError, match=r"\['H'\], not"):
        session.run(tf.global_variables_initializer())
        fetches, feed = {"D": model.hessians}, {model.x: model.value}
        batchhess.evaluate(session, fetches, feed, [model.x], out=stopped, resume=True)


@pytest.mark.parametrize("row", [0, 17, 31])
def test_other_data_is_refused_wherever_it_differs(model, stopped, row):
    value = model.value.copy()
    value[row, 1] = np.nextafter(value[row, 1], 9)
    first = row // BATCH * BATCH
    words = "other data: observations {} to {}".format(first, first + BATCH)
    with pytest.raises(ValueError, match=words):
        model.evaluate(stopped, resume=True, value=value)


def test_other_numbers_of_observations_are_refused(model, stopped):
    with pytest.raises(ValueError, match="number of observations: 40, not 39"):
        model.evaluate(stopped, resume=True, value=model.value[:39])


def test_another_batch_size_goes_on(model, stopped):
    assert_whole(model, model.evaluate(stopped, resume=True, batch_size=3), stopped)


def test_a_longer_or_shorter_file_is_refused(model, stopped):
    path = stopped / "H.npy.partial"
    whole = path.read_bytes()
    for data in (whole + b"x", whole[:-1], b""):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is not the file that the journal tells"):
            model.evaluate(stopped, resume=True)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="is missing. Put it back"):
        model.evaluate(stopped, resume=True)


def test_a_users_own_file_is_left_alone(model, tmp_path):
    (tmp_path / "H.npy").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="no journal says that evaluate wrote it"):
        model.evaluate(tmp_path)
    with pytest.raises(FileExistsError):
        model.evaluate(tmp_path, resume=True)
    assert (tmp_path / "H.npy").read_bytes() == b"mine"


def test_a_users_own_file_that_comes_later_is_left_alone(model, stopped):
    def write(done, count):
        (stopped / "H.npy").write_bytes(b"mine")

    with pytest.raises(FileExistsError, match="are whole in '.*H.npy.partial'"):
        model.evaluate(stopped, resume=True, progress=write)
    assert (stopped / "H.npy").read_bytes() == b"mine"
    (stopped / "H.npy").unlink()
    assert_whole(model, model.evaluate(stopped, resume=True), stopped)


def test_a_second_writer_is_refused(model, tmp_path):
    def second(done, count):
        with pytest.raises(RuntimeError, match=r"being written by another evaluation"):
            model.evaluate(tmp_path, resume=True)

    assert_whole(model, model.evaluate(tmp_path, progress=second), tmp_path)


def test_a_full_disk_is_told_before_anything_is_computed(model, tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room for 1,408 bytes of results: No space"):
        model.evaluate(tmp_path)
    monkeypatch.undo()
    assert_whole(model, model.evaluate(tmp_path, resume=True), tmp_path)


def test_a_disk_that_is_much_too_small_is_told(model, tmp_path, monkeypatch):
    class Stat:
        f_bavail, f_frsize = 1, 512

    monkeypatch.setattr(os, "statvfs", lambda path: Stat)
    with pytest.raises(OSError, match="need 1,408 bytes, and 512 are free"):
        model.evaluate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_no_observations_make_an_empty_file(model, tmp_path):
    found = model.evaluate(tmp_path, value=model.value[:0])
    assert found.shape == (0, 2, 2)
    again = model.evaluate(tmp_path, value=model.value[:0], resume=True)
    assert again.shape == (0, 2, 2)


def test_strings_are_refused_and_bfloat16_is_widened(tmp_path):
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as session:
        with pytest.raises(TypeError, match="is of strings, which a .npy file cannot"):
            batchhess.evaluate(
                session, tf.as_string(x), {x: [1.0]}, [x], out=tmp_path / "s"
            )
        narrow = tf.cast(x, tf.bfloat16)
        found = batchhess.evaluate(
            session, narrow, {x: np.ones(40)}, [x], out=tmp_path / "b", batch_size=16
        )
    assert found.dtype == np.float32 and (found == 1).all()


WRITER = """
import sys, numpy as np
sys.path.insert(0, {root!r})
from batchhess.compat import tf
import batchhess
tf.disable_eager_execution()
x = tf.placeholder(tf.float64, [None, 2], name="x")
value = np.arange(4000.0).reshape(2000, 2)
with tf.Session() as session:
    y = {{"H": 3 * x, "long": tf.tile(x, [1, 500])}}
    def progress(done, count):
        print(done, flush=True)
    batchhess.evaluate(session, y, {{x: value}}, [x], batch_size=17, out={out!r},
                       resume=True, progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_costs_at_most_two_batches(tmp_path):
    root = os.path.dirname(os.path.dirname(batchhess.__file__))
    program = WRITER.format(root=root, out=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    done = int(process.stdout.readline())
    time.sleep(0.02)
    process.kill()
    rest = process.communicate()[0].split()
    done = int(rest[-1]) if rest else done
    assert done < 2000
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    fetches = {"H": 3 * x, "long": tf.tile(x, [1, 500])}
    seen = []
    with tf.Session() as session:
        batchhess.evaluate(
            session,
            fetches,
            {x: np.arange(4000.0).reshape(2000, 2)},
            [x],
            batch_size=17,
            out=tmp_path,
            resume=True,
            progress=lambda done, _: seen.append(done),
        )
    assert done <= seen[0] <= done + 2 * 17  # The last may not have been written yet.
    value = np.arange(4000.0).reshape(2000, 2)
    np.testing.assert_array_equal(np.load(str(tmp_path / "H.npy")), 3 * value)
    long = np.load(str(tmp_path / "long.npy"))
    np.testing.assert_array_equal(long, np.tile(value, [1, 500]))


def test_a_full_disk_raises_and_leaves_what_was_there(model, stopped, monkeypatch):
    def write(self, answers, start, stop, sums):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.Directory, "_write", write)
    with pytest.raises(OSError, match="No space left"):
        model.evaluate(stopped, resume=True)
    assert not (stopped / "H.npy").exists()
    monkeypatch.undo()
    assert_whole(model, model.evaluate(stopped, resume=True), stopped)


def table_model(values):
    """A fetch by a table, and a Session where it holds `values`."""
    x, ids = tf.placeholder(tf.float64, [None, 2]), tf.placeholder(tf.int64, [None])
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant([0, 1], tf.int64), tf.constant(values, tf.float64)
        ),
        -1.0,
    )
    session = tf.Session()
    session.run(tf.tables_initializer())
    return session, x * table.lookup(ids)[:, None], {x: np.ones((40, 2)), ids: [1] * 40}


def test_what_a_table_holds_is_part_of_the_model(tmp_path):
    def go(values, **options):
        with tf.Graph().as_default():
            session, fetch, feed = table_model(values)
            with session:
                return batchhess.evaluate(
                    session,
                    fetch,
                    feed,
                    list(feed),
                    batch_size=20,
                    out=tmp_path,
                    **options,
                )

    with pytest.raises(StoppedError):
        go([1.0, 2.0], progress=stop_after(20))
    with pytest.raises(ValueError, match="another model"):
        go([1.0, 7.0], resume=True)
    np.testing.assert_array_equal(go([1.0, 2.0], resume=True), np.full((40, 2), 2.0))


def test_nan_that_was_kept_is_told_where_it_is_an_error(model, tmp_path):
    value = model.value.copy()
    value[[3, 20]] = np.nan
    given = {"out": tmp_path, "value": value}
    with pytest.raises(StoppedError):
        model.evaluate(progress=stop_after(2 * BATCH), **given)
    words = "is NaN or Inf at observations 3. Pass on_nonfinite='keep'"
    for finish in (False, True):
        with pytest.raises(ValueError, match=words):
            model.evaluate(resume=True, on_nonfinite="error", **given)
        if not finish:
            model.evaluate(resume=True, **given)


def test_a_users_file_beside_the_journal_is_left_alone(model, tmp_path):
    (tmp_path / "journal.jsonl.new").write_text("mine")
    assert_whole(model, model.evaluate(tmp_path), tmp_path)
    assert (tmp_path / "journal.jsonl.new").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_in_the_way(model, tmp_path):
    os.symlink(str(tmp_path / "nowhere"), str(tmp_path / "H.npy"))
    with pytest.raises(FileExistsError, match="no journal says"):
        model.evaluate(tmp_path)


def test_a_lock_that_is_the_users_file_is_kept(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2])
    (tmp_path / ".lock").write_text("mine")
    with tf.Session() as session:
        with pytest.raises(ValueError, match="'.*.lock' is not of batchhess"):
            batchhess.evaluate(session, x**2, {x: np.ones((3, 2))}, [x], out=tmp_path)
    assert (tmp_path / ".lock").read_text() == "mine"
