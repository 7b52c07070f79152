"""Tries to lose or spoil data, and to break the command, and tells what was lost.

    python benchmarks/reliability.py [--quick] [--only NAME ...]

Prints a table in Markdown, as docs/reliability.md has it. Takes minutes. Needs os.fork.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402

import batchhess  # noqa: E402
from batchhess import reading  # noqa: E402
from batchhess.compat import tf  # noqa: E402

MODELS = os.path.join(ROOT, "tests", "data", "models", "tf1")
COUNT, SIZE = 4000, 8
VALUE = np.random.RandomState(0).randn(COUNT, SIZE)
TRUTH = 6 * VALUE[:, :, None] * np.eye(SIZE)


def evaluate(out, resume=True, **options):
    """The Hessians of sum(x**3) into a directory."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, SIZE], name="x")
        (hessian,) = batchhess.hessians(tf.reduce_sum(x**3), x)
        return batchhess.evaluate(
            session,
            {"H": hessian},
            {x: VALUE},
            [x],
            batch_size=options.pop("batch_size", 8),
            out=out,
            resume=resume,
            **options,
        )["H"]


def child(function, seconds=None):
    """Runs a function in another process, killed after `seconds`.

    Returns:
      what it returned, as text; "killed", or the number of the signal that ended it.
    """
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.close(read)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.write(write, str(function()).encode())
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-2000:])
        finally:
            os._exit(status)
    os.close(write)
    end = None if seconds is None else time.time() + seconds
    while True:
        done, status = os.waitpid(process, 0 if end is None else os.WNOHANG)
        if done:
            break
        if time.time() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(read)
            return "killed"
        time.sleep(0.002)
    with os.fdopen(read, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    if os.WIFSIGNALED(status):
        return "signal {}".format(os.WTERMSIG(status))
    return text


def is_right(out):
    return np.array_equal(np.load(os.path.join(out, "H.npy")), TRUTH)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def kills(folder, tries):
    """kill -9 at random moments, and resume."""
    child(lambda: evaluate(folder + "/whole") is None)
    expected = digest(folder + "/whole/H.npy")
    killed = finished = lost = early = 0
    out = folder + "/0"
    while killed < tries:
        ended = child(lambda at=out: evaluate(at) is None, random.uniform(0.3, 3))
        if os.path.exists(out + "/H.npy") and not is_right(out):
            early += 1
        if ended == "killed":
            killed += 1
            continue
        finished += 1
        lost += digest(out + "/H.npy") != expected
        shutil.rmtree(out)
        out = "{}/{}".format(folder, finished)
    child(lambda: evaluate(out) is None)
    finished += 1
    lost += digest(out + "/H.npy") != expected
    return killed, "{} files, {} not byte-identical, {} under their name early".format(
        finished, lost, early
    )


def full_disk(folder, tries):
    """A disk that is full: before, and in the middle."""
    import resource

    outcomes = collections.Counter()
    for index in range(tries):
        out = "{}/{}".format(folder, index)

        def limited(out=out):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            limit = int(random.uniform(100, COUNT * SIZE * SIZE * 8))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                evaluate(out)
            except OSError:
                return "told by an OSError"

        outcomes[child(limited)] += 1
        again = child(lambda out=out: is_right_after(out))
        outcomes["then resumed right" if again == "True" else again[-200:]] += 1
    return tries, told(outcomes)


def is_right_after(out):
    evaluate(out)
    return is_right(out)


def two_writers(folder, tries):
    """Two writers into one directory at a time."""
    outcomes = collections.Counter()
    for index in range(tries):
        out = "{}/{}".format(folder, index)

        def first(out=out):
            seen = []

            def second(done, count):
                if done == 8 * 20:
                    seen.append(child(lambda: refusal(out)))

            evaluate(out, progress=second)
            return ", ".join(seen) + (", right" if is_right(out) else ", WRONG")

        outcomes[child(first)] += 1
    return tries, told(outcomes)


def refusal(out):
    try:
        evaluate(out)
        return "BOTH WROTE"
    except RuntimeError:
        return "the second was refused"


def damage(path, rng):
    """Spoils a file: bytes changed, cut, emptied, zeroed or lengthened."""
    with open(path, "rb") as file:
        whole = bytearray(file.read())
    how = rng.choice(["bytes", "cut", "zero", "longer", "empty"])
    at = rng.randrange(len(whole)) if whole else 0
    if how == "bytes":
        for _ in range(rng.randint(1, 4)):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
    elif how == "cut":
        del whole[at:]
    elif how == "zero":
        whole[at : at + 100] = bytes(len(whole[at : at + 100]))
    elif how == "longer":
        whole += bytes(bytearray(rng.randrange(256) for _ in range(20)))
    else:
        del whole[:]
    with open(path, "wb") as file:
        file.write(bytes(whole))


class StoppedError(Exception):
    pass


def stop(done, count):
    if done >= count // 2:
        raise StoppedError


def damaged_results(folder, tries):
    """Damaged journals and results, unfinished and finished."""

    def some(seed):
        rng, outcomes = random.Random(seed), collections.Counter()
        with contextlib.suppress(StoppedError):
            evaluate(folder + "/half", progress=stop, batch_size=256)
        evaluate(folder + "/done", batch_size=256)
        for _ in range(tries // 4):
            source = rng.choice(["half", "done"])
            out = folder + "/try"
            shutil.rmtree(out, True)
            shutil.copytree("{}/{}".format(folder, source), out)
            files = [f for f in sorted(os.listdir(out)) if f != ".lock"]
            damage(os.path.join(out, rng.choice(files)), rng)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    evaluate(out, batch_size=256)
                right = is_right(out)
                outcomes["resumed right" if right else "WRONG"] += 1
            except (ValueError, OSError) as error:
                named = out in str(error)
                outcomes[
                    "refused by name" if named else "REFUSED: {}".format(error)
                ] += 1
        return told(outcomes)

    total = collections.Counter()
    for seed in range(4):
        for part in child(lambda seed=seed: some(seed)).split("; "):
            number, _, what = part.partition(" ")
            total[what] += int(number) if number.isdigit() else 1
    return tries, told(total)


def corrupted(read, names, folder, tries):
    """Reads damaged copies of files; what came of it."""
    total = collections.Counter()
    for name in names:
        for seed in range(10):

            def some(name=name, seed=seed):
                rng, outcomes = random.Random(seed), collections.Counter()
                signal.signal(signal.SIGALRM, hang)
                for _ in range(tries // 10):
                    path = folder + "/copy"
                    shutil.rmtree(path, True)
                    shutil.copytree(os.path.dirname(name), path)
                    damage(os.path.join(path, os.path.basename(name)), rng)
                    signal.alarm(20)
                    outcomes[read(path, os.path.basename(name))] += 1
                    signal.alarm(0)
                return told(outcomes)

            answer = child(some, 300)
            if not answer[:1].isdigit():
                total["CRASHED in {}: {}".format(name, answer[-300:])] += 1
                continue
            for part in answer.split("; "):
                number, _, what = part.partition(" ")
                total[what] += int(number)
    return tries * len(names), told(total)


def hang(*_):
    raise RuntimeError("hangs")


def outcome(function, folder):
    try:
        function()
        return "read: the damage was in what has no meaning, or in a number"
    except (ValueError, OSError) as error:
        return (
            "refused by name" if folder in str(error) else "REFUSED: {}".format(error)
        )
    except Exception as error:
        return "RAISED {}: {}".format(type(error).__name__, error)[:200]


def read_model(folder, name):
    """Loads a model, restores it, and runs what it gives."""

    def load():
        path = folder if name.startswith("saved_model") else os.path.join(folder, name)
        if name.endswith((".index", "-00001")):
            path = folder + "/model.meta"
        checkpoint = folder + "/model" if name == "text.meta" else None
        with batchhess.load(path, checkpoint=checkpoint, initialize=True) as model:
            assert model.session

    return outcome(load, folder)


def corrupted_models(folder, tries):
    """Damaged models: MetaGraph, SavedModels, frozen graph, checkpoint."""
    names = ["model.meta", "text.meta", "frozen.pb", "frozen.pbtxt", "model.index"]
    names += ["model.data-00000-of-00001"]
    flat = folder + "/flat"
    os.makedirs(flat)
    for name in os.listdir(MODELS):
        if os.path.isfile(os.path.join(MODELS, name)):
            shutil.copy(os.path.join(MODELS, name), flat)
    paths = [os.path.join(flat, name) for name in names]
    for name in ("saved_v1", "saved_v2", "keras"):
        paths.append(os.path.join(MODELS, name, "saved_model.pb"))
    return corrupted(read_model, paths, folder, tries)


def corrupted_data(folder, tries):
    """Damaged data: .npy, .npz, .csv, .tfrecord."""
    flat = folder + "/flat"
    os.makedirs(flat)
    value = VALUE[:20]
    np.save(flat + "/x.npy", value)
    np.savez(flat + "/x.npz", x=value)
    np.savetxt(flat + "/x.csv", value, delimiter=",")
    with tf.python_io.TFRecordWriter(flat + "/x.tfrecord") as writer:
        for row in value:
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.extend(row)
            writer.write(example.SerializeToString())

    def read(path, name):
        return outcome(lambda: np.array(reading.read(path + "/" + name, "x:0")), path)

    paths = [flat + "/x" + end for end in (".npy", ".npz", ".csv", ".tfrecord")]
    return corrupted(read, paths, folder, tries)


def many_evaluations(folder, tries):
    """Evaluations in one Session."""

    def run():
        with tf.Graph().as_default() as graph, tf.Session() as session:
            x = tf.placeholder(tf.float64, [None, SIZE], name="x")
            w = tf.get_variable("w", initializer=np.ones(SIZE), use_resource=True)
            (hessian,) = batchhess.hessians(tf.reduce_sum(w * x**3), x)
            session.run(tf.global_variables_initializer())
            wrong, begin = 0, None
            for index in range(tries):
                out = folder + "/out" if index % 100 == 0 else None
                shutil.rmtree(folder + "/out", True)
                rows = slice(index % 1000, index % 1000 + 20)
                found = batchhess.evaluate(
                    session, hessian, {x: VALUE[rows]}, [x], batch_size=16, out=out
                )
                wrong += not np.array_equal(found, TRUTH[rows])
                if index == tries // 10:
                    begin = memory(), len(graph.get_operations())
            grown = memory() - begin[0]
            ops = len(graph.get_operations()) - begin[1]
        return "{} wrong, {:.0f} MB and {} ops more at the end".format(
            wrong, grown / 1e6, ops
        )

    return tries, child(run)


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def told(outcomes):
    return "; ".join("{} {}".format(n, what) for what, n in outcomes.most_common())


TRIALS = collections.OrderedDict(
    [
        ("kills", (kills, 100)),
        ("full_disk", (full_disk, 20)),
        ("two_writers", (two_writers, 20)),
        ("damaged_results", (damaged_results, 400)),
        ("corrupted_models", (corrupted_models, 1000)),
        ("corrupted_data", (corrupted_data, 1000)),
        ("many_evaluations", (many_evaluations, 10000)),
    ]
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the tries")
    parser.add_argument(
        "--only", nargs="+", choices=list(TRIALS), default=list(TRIALS), help="some"
    )
    options = parser.parse_args()
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.FATAL)
    random.seed(0)
    print("TensorFlow {}\n".format(batchhess.compat.VERSION))
    print("| tried | times | what came of it |\n|---|---|---|", flush=True)
    for name in options.only:
        trial, tries = TRIALS[name]
        folder = tempfile.mkdtemp(prefix="batchhess_")
        try:
            tries, outcome = trial(
                folder, max(1, tries // 10 if options.quick else tries)
            )
        finally:
            shutil.rmtree(folder, True)
        first = trial.__doc__.splitlines()[0].rstrip(".")
        print("| {} | {:,} | {} |".format(first, tries, outcome), flush=True)


if __name__ == "__main__":
    main()
