"""Random models, the library's operators, and whether one is ever wrong.

Run: python tests/random_programs.py 2000 --seed 1 --operators hessians laplacians
"""

import argparse
import collections
import os
import signal
import sys
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
from random_models import draw_model
from random_steps import K, N, draw, outcomes, tell_proofs
from random_values import evaluator
from value_differences import value_curvatures, value_slopes

import batchhess
from batchhess.compat import tf

__all__ = ["K", "N", "draw", "outcomes", "judge", "OPERATORS"]

OPERATORS = [
    "hessians",
    "derivatives",
    "hessian_diagonals",
    "laplacians",
    "hessian_vector_products",
    "hessian_blocks",
    "jacobians",
]
METHODS = ["auto"] * 6 + ["columns", "symmetric", "observations", "differences"]
OF_JACOBIANS = ["auto"] * 3 + ["forward", "reverse", "observations"]
# With which methods the graph's own pattern of zeros may be passed.
DETECTED = {
    "hessians": ["auto", "columns"],
    "jacobians": ["auto", "forward", "reverse"],
}

# verdict: "right"; "refused when built"; "refused when run"; "false alarm", of a
# coupling or by check="always" where no step couples; "imprecise", wrong in float32 and
# right in float64; "not finite"; "no oracle", since f varies too fast; "no model",
# since TensorFlow cannot run f; or one of BAD.
Verdict = collections.namedtuple("Verdict", "verdict words detail")
BAD = ("WRONG", "CRASH", "HANG")
SECONDS = 90
PRODUCTS = 0.4
# tf.losses computes them in float32, whatever it is given.
IN_FLOAT32 = {"mean_squared_error"}
TOLERANCE = {"float64": 1e-5, "float32": 5e-3}


class _Hang(BaseException):
    """The time of one program is over."""


def judge(seed, number, operators=None, products=PRODUCTS):
    """Draws program `number` of `seed`, lets an operator answer, and judges it.

    Args:
      seed, number: ints.
      operators: list of those to draw from; all if None.
      products: float, how often a model begins with products of several shapes.

    Returns:
      `Verdict`.
    """
    random = np.random.RandomState([seed, number])
    operators = operators or OPERATORS
    operator = operators[random.randint(len(operators))]
    words = [operator]
    flow = random.choice(["v1", "v2"])
    dtype = str(random.choice(["float64", "float64", "float32"]))
    per_output = operator != "hessian_blocks" and random.rand() < 0.15
    per_output |= operator == "jacobians"
    methods = OF_JACOBIANS if operator == "jacobians" else METHODS
    options = {}
    if operator != "hessian_vector_products":
        options["method"] = methods[random.randint(len(methods))]
    # Drawn apart, so that what else is drawn stays as it is.
    apart = np.random.RandomState([seed, number, 1])
    if options.get("method") in DETECTED.get(operator, []) and apart.rand() < 0.2:
        options["sparsity"] = "detected"
    if random.rand() < 0.1:
        options["check"] = "always"
    words += ["control flow " + flow, dtype] + sorted(
        "{}={}".format(*item) for item in options.items()
    )
    if operator != "jacobians":
        options["per_output"] = per_output
    draws = random.randint(2**31)
    (tf.enable_control_flow_v2 if flow == "v2" else tf.disable_control_flow_v2)()

    def model(kind):
        random, apart = (np.random.RandomState(s) for s in (draws, [draws, 1]))
        blocks = operator == "hessian_blocks"
        begins = apart.rand() < products
        return draw_model(random, kind, blocks, per_output, apart if begins else None)

    with tf.Graph().as_default(), _session(random) as session:
        tf.set_random_seed(1)
        try:
            drawn = model(dtype)
            if random.rand() < 0.1:
                words.append("run before it is differentiated")
                session.run([tf.global_variables_initializer(), drawn.restart])
                session.run(drawn.ys, drawn.feed)
        except Exception as error:  # TensorFlow's own refusal.
            return Verdict("no model", words, _short(error))
        words += drawn.words
        try:
            answers = _answers(operator, drawn, options, session)
        except Exception as error:
            return Verdict(*_judge_error(operator, drawn, words, error, session))
        if dtype == "float64":
            return _compare(operator, drawn, options, words, answers, session)
    with tf.Graph().as_default(), _session(random) as session:
        tf.set_random_seed(1)
        try:
            twin = model("float64")
            session.run(tf.global_variables_initializer())
        except Exception as error:  # As where tf.losses have made it float32.
            return Verdict("no model", words, _short(error))
        verdict = _compare(operator, twin, options, words, answers, session, dtype)
        if verdict.verdict == "WRONG":
            # Is it float32 that cannot do better?
            try:
                answers = _answers(operator, twin, options, session)
            except Exception:
                return verdict
            again = _compare(operator, twin, options, words, answers, session)
            if again.verdict == "right":
                return Verdict("imprecise", words, verdict.detail)
        return verdict


def _session(random):
    """Mostly without Grappler, whose time is most of a short run's."""
    config = tf.ConfigProto(inter_op_parallelism_threads=2)
    plain = random.rand() < 0.75
    config.graph_options.rewrite_options.disable_meta_optimizer = plain
    return tf.Session(config=config)


def _direction(values, axis):
    """One direction for all observations, as vs in the shapes of xs, and as [K]."""
    parts = [np.moveaxis(v, axis if v.ndim > 1 else 0, 0)[0] for v in values]
    flat = [0.5 + 0.3 * np.arange(part.size).reshape(part.shape) for part in parts]
    vs = [
        np.moveaxis(
            np.broadcast_to(f, (v.shape[axis if v.ndim > 1 else 0],) + f.shape),
            0,
            axis if v.ndim > 1 else 0,
        )
        for f, v in zip(flat, values)
    ]
    return vs, np.concatenate([f.ravel() for f in flat])


def _answers(operator, model, options, session):
    """What the operator answers, as arrays [N, ...] with the coordinates flat."""
    call = getattr(batchhess, operator)
    options = dict(options, batch_axis=model.axis)
    arguments = [model.ys, model.xs if operator == "hessian_blocks" else model.xs[0]]
    if operator == "hessian_vector_products":
        arguments.append(_direction(model.values, model.axis)[0][0])
    if "sparsity" in options:
        options["sparsity"] = batchhess.detect_sparsity(
            *arguments, batch_axis=model.axis, of=operator
        )
    built = call(*arguments, **options)
    gradient = None
    if operator == "derivatives":
        built, gradient = built.hessians, built.gradients[0]
    train = tf.no_op() if model.train is None else model.train
    run = [built, [] if gradient is None else [gradient], [train]]
    feed = dict(model.feed)
    session.run([tf.global_variables_initializer(), model.restart])
    if model.fed is not None:
        before, after, delta = model.fed
        feed[after] = session.run(before, feed) + delta
    found = session.run(run[:2] + run[2], feed)
    if operator != "hessian_blocks":
        return np.asarray(found[0][0], np.float64)
    n = np.shape(found[0][0][0])[0]
    sizes = [v.size // n for v in model.values]
    return np.concatenate(
        [
            np.concatenate(
                [np.reshape(b, [n, a, c]) for b, c in zip(row, sizes)], axis=2
            )
            for row, a in zip(found[0], sizes)
        ],
        axis=1,
    ).astype(np.float64)


def _short(error):
    lines = [line for line in str(error).splitlines() if line.strip()]
    frames = traceback.extract_tb(error.__traceback__)
    places = [f for f in frames if os.sep + "batchhess" + os.sep in f.filename]
    where = ""
    if places and not isinstance(error, tf.errors.OpError):
        last = places[-1]
        where = " [{}:{}]".format(os.path.basename(last.filename), last.lineno)
    return "{}: {}{}".format(type(error).__name__, " ".join(lines)[:500], where)


def _judge_error(operator, model, words, error, session):
    ours = any(name + ": " in str(error) for name in (operator, "detect_sparsity"))
    if not (ours and _is_from_here(error)) and not _runs(model, session):
        return "no model", words, _short(error)
    if isinstance(error, tf.errors.OpError):
        if isinstance(error, tf.errors.InvalidArgumentError) and ours:
            alarm = "coupled" in str(error) and not model.coupling
            alarm |= "outside of sparsity" in str(error)  # It was proven.
            verdict = "false alarm" if alarm else "refused when run"
            return verdict, words, _short(error)
        return "CRASH", words, _short(error)
    kinds = (ValueError, TypeError, LookupError, RuntimeError)
    said = isinstance(error, kinds) and ours and _is_from_here(error)
    return "refused when built" if said else "CRASH", words, _short(error)


def _is_from_here(error):
    """Whether the library has raised it, and not TensorFlow for an op that it built."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if isinstance(error, tf.errors.OpError):
        return True  # Of an op that has its name.
    return os.sep + "batchhess" + os.sep in last and "input shapes:" not in str(error)


def _runs(model, session):
    """Whether f and its gradient run, and are finite."""
    try:
        gradients = [g for g in tf.gradients(model.ys, model.xs) if g is not None]
        session.run([tf.global_variables_initializer(), model.restart])
        found = session.run([model.ys, gradients], model.feed)
    except Exception:  # As on 1.15, where atan2 that broadcasts has no gradient.
        return False
    return all(np.isfinite(value).all() for values in found for value in values)


def _compare(operator, model, options, words, answers, session, dtype="float64"):
    dtype = "float32" if IN_FLOAT32.intersection(words) else dtype
    given = model, words, answers, session, dtype
    for step in (1, 0.1):  # A pole or a kink within a step misleads the larger one.
        if operator == "jacobians":
            verdict = _compare_slopes(*given, step)
        else:
            verdict = _compare_curvatures(operator, options, *given, step)
        if verdict.verdict != "WRONG":
            break
    return verdict


def _compare_curvatures(operator, options, model, words, answers, session, dtype, step):
    n = model.values[0].shape[model.axis]
    v = _direction(model.values, model.axis)[1]
    k = len(v)
    units = np.eye(k)
    if operator == "hessian_vector_products":
        e = np.cos(np.arange(k) + 0.5)
        directions = np.stack([e + v, e - v]) / 2
    elif operator in ("hessian_diagonals", "laplacians"):
        directions = units
    else:
        directions = None
    axes = [0] if options["per_output"] else None
    evaluate, size = evaluator(model, axes, session)
    if not np.isfinite(size):
        return Verdict("no model", words, "f is not finite, or does not run")
    rows = np.concatenate(
        [np.moveaxis(x, model.axis, 0).reshape(n, -1) for x in model.values], 1
    )
    truth = value_curvatures(evaluate, rows, step=0.04 * step, directions=directions)
    along, errors = truth.along, truth.errors
    m = len(along) if options["per_output"] else None
    lead = [n] if m is None else [n, m]
    if operator == "laplacians":
        along, errors = along.sum(2, keepdims=True), errors.sum(2, keepdims=True)
        found = np.reshape(answers, lead + [1])
    elif operator == "hessian_diagonals":
        found = np.reshape(answers, lead + [k])
    elif operator == "hessian_vector_products":
        # The product is bilinear: (e + v)^2 - (e - v)^2 = 4 e v.
        along = along[:, :, :1] - along[:, :, 1:]
        errors = errors.sum(2, keepdims=True)
        if m is None:
            answers = np.moveaxis(answers, model.axis, 0)
        found = np.reshape(answers, lead + [k]).dot(e)[..., None]
    else:
        h = np.reshape(answers, lead + [k, k])
        skew = np.abs(h - np.swapaxes(h, -1, -2)).max() if h.size else 0
        d = truth.directions
        found = np.einsum("di,...ij,dj->...d", d, h, d)
    found = found[None] if m is None else np.moveaxis(found, 1, 0)
    tolerance = TOLERANCE[dtype]
    if options.get("method") == "differences":
        tolerance = max(tolerance, 2e-2 if dtype == "float32" else 1e-5)
    scale = np.nanmax(np.abs(along)) + 1e-3
    if dtype == "float32":
        scale += size
    trusted = errors < 0.1 * tolerance * scale
    if not np.isfinite(found[trusted]).all():
        return Verdict("not finite", words, str(found)[:100])
    off = np.abs(found - along)[trusted]
    worst = off.max() if off.size else 0
    if worst > tolerance * scale:
        detail = "off by {:.3g} of {:.3g}".format(worst, scale)
        return Verdict("WRONG", words, detail)
    if directions is None and trusted.all() and skew > tolerance * scale:
        return Verdict("WRONG", words, "not symmetric, by {:.3g}".format(skew))
    return Verdict("right" if trusted.all() else "no oracle", words, "")


def _compare_slopes(model, words, answers, session, dtype, step):
    """The same of Jacobians, against differences of y, one observation at a time."""
    n = model.values[0].shape[model.axis]
    rows = np.moveaxis(model.values[0], model.axis, 0).reshape(n, -1)
    evaluate, size = evaluator(model, [], session)
    if not np.isfinite(size):
        return Verdict("no model", words, "f is not finite, or does not run")
    found = np.reshape(answers, [n, -1, rows.shape[1]])
    slopes, errors = value_slopes(evaluate, rows, 1e-3 * step)
    tolerance, scale = TOLERANCE[dtype], np.nanmax(np.abs(slopes)) + 1e-3
    scale += size if dtype == "float32" else 0
    trusted = errors < 0.1 * tolerance * scale
    if not np.isfinite(found[trusted]).all():
        return Verdict("not finite", words, str(found)[:100])
    off = np.abs(found - slopes)[trusted]
    if off.size and off.max() > tolerance * scale:
        detail = "off by {:.3g} of {:.3g}".format(off.max(), scale)
        return Verdict("WRONG", words, detail)
    return Verdict("right" if trusted.all() else "no oracle", words, "")


def verdicts(count, seed, operators=None, first=0, seconds=None, products=PRODUCTS):
    """Yields (number, `Verdict`) from `first` on, until `seconds` are over."""
    start = time.time()
    alarms = hasattr(signal, "SIGALRM")
    if alarms:
        signal.signal(signal.SIGALRM, _stop)
    for number in range(first, first + count):
        if seconds and time.time() - start > seconds:
            return
        if alarms:
            signal.alarm(SECONDS)
        try:
            verdict = judge(seed, number, operators, products)
        except _Hang:
            verdict = Verdict("HANG", [], "over {} seconds".format(SECONDS))
        finally:
            if alarms:
                signal.alarm(0)
        yield number, verdict


def _stop(*_):
    raise _Hang


def _command(given, number):
    """What to paste to see one program again."""
    command = "    python tests/random_programs.py 1 --verbose --seed {} --first {}"
    command = command.format(given.seed, number)
    if given.products != PRODUCTS:
        command += " --products {}".format(given.products)
    return " ".join(
        [command] + (["--operators"] + given.operators if given.operators else [])
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operators", nargs="*", choices=OPERATORS)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    share = "how often a model begins with products of several shapes"
    parser.add_argument("--products", type=float, default=PRODUCTS, help=share)
    parser.add_argument("--seconds", type=float, help="stop after these")
    parser.add_argument("--verbose", action="store_true", help="tell all verdicts")
    parser.add_argument("--proof", action="store_true", help="judge the proof alone")
    given = parser.parse_args(arguments)
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    if given.proof:
        return 1 if tell_proofs(given.count, given.seed) else 0
    tally, start = collections.Counter(), time.time()
    rest = given.first, given.seconds, given.products
    for number, verdict in verdicts(given.count, given.seed, given.operators, *rest):
        tally[verdict.verdict] += 1
        if given.verbose or verdict.verdict in BAD:
            print("{}: {}".format(verdict.verdict, ", ".join(verdict.words)))
            print("   ", verdict.detail)
            print(_command(given, number))
            sys.stdout.flush()
    total = sum(tally.values())
    print("{} programs, {:.1f} a second".format(total, total / (time.time() - start)))
    for verdict, times in sorted(tally.items()):
        print("{:>8} {}".format(times, verdict))
    return 1 if any(tally[verdict] for verdict in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
