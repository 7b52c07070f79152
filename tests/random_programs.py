"""Random models, the library's operators, and whether one is ever wrong.

Run: python tests/random_programs.py 2000 --seed 1 --operators hessians laplacians
With --kinds fed draws functions file narrow once, of models whose inner tensors are
fed, that draw random numbers, that call functions, that were written to a file and read
back, that compute in less precise numbers than x is given in, or that hold what
TensorFlow differentiates wrongly already once, and what is like it.
"""

import argparse
import collections
import gc
import os
import signal
import sys
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
from random_files import read_back
from random_models import KINDS, Special, draw_model
from random_steps import K, N, draw, outcomes, tell_proofs
from random_values import read_fed
from random_verdicts import BAD, Verdict, compare, direction_of

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
OF_PRODUCTS = ["auto"] * 2 + ["forward", "symmetric", "columns"]
OF_JACOBIANS = ["auto"] * 3 + ["forward", "reverse", "observations"]
# With which methods the graph's own pattern of zeros may be passed.
DETECTED = {
    "hessians": ["auto", "columns"],
    "jacobians": ["auto", "forward", "reverse"],
}

# What is asked of a model: the operator, its options, the dtype of x, whether y is
# [N, M], and all that in words.
_Asked = collections.namedtuple("_Asked", "operator options dtype per_output words")
SECONDS = 90
PRODUCTS = 0.4
SPECIAL = 0.3


class _Hang(BaseException):
    """The time of one program is over."""


def judge(seed, number, operators=None, products=PRODUCTS, kinds=None):
    """Draws program `number` of `seed`, lets an operator answer, and judges it.

    Args:
      seed, number: ints.
      operators: list of those to draw from; all if None.
      products: float, how often a model begins with products of several shapes.
      kinds: list of the special kinds of which the model is one; if None, some models
        are of any kind, and most of none.

    Returns:
      `Verdict`.
    """
    random = np.random.RandomState([seed, number])
    asked = _ask(
        random, np.random.RandomState([seed, number, 1]), operators or OPERATORS
    )
    operator, options, words = asked.operator, asked.options, asked.words
    draws = random.randint(2**31)
    kind = _kind(kinds, np.random.RandomState([seed, number, 2]))
    words += [kind] if kind else []

    narrow = None
    if kind == "narrow":
        narrow = "float16" if asked.dtype == "float32" else "float32"

    def model(dtype, given=None, narrow=None):
        return _model(draws, dtype, asked, products, (kind, given, narrow))

    with tf.Graph().as_default(), _session(random) as session:
        tf.set_random_seed(1)
        try:
            drawn = model(asked.dtype, narrow=narrow)
            if random.rand() < 0.1:
                _run_before(drawn, words, session)
        except Exception as error:  # TensorFlow's own refusal.
            return Verdict("no model", words, _short(error))
        words += drawn.words
        try:
            answers, given = _answers(operator, drawn, options, session)
        except Exception as error:
            return Verdict(*_judge_error(operator, drawn, words, error, session))
        if asked.dtype == "float64" and not given and not narrow:
            return compare(operator, drawn, options, words, answers, session)
    with tf.Graph().as_default(), _session(random) as session:
        tf.set_random_seed(1)
        try:
            twin = model("float64", given or None)
            session.run(tf.global_variables_initializer())
        except Exception as error:  # As where tf.losses have made it float32.
            return Verdict("no model", words, _short(error))
        return _compare_with(twin, asked, answers, session, narrow or asked.dtype)


def _run_before(model, words, session):
    words.append("run before it is differentiated")
    session.run([tf.global_variables_initializer(), model.restart])
    session.run(model.ys, model.feed)


def _ask(random, apart, operators):
    """Draws what to ask of a model, and sets the control flow that it has.

    What is drawn from `apart` leaves what else is drawn as it is.
    """
    operator = operators[random.randint(len(operators))]
    flow = random.choice(["v1", "v2"])
    (tf.enable_control_flow_v2 if flow == "v2" else tf.disable_control_flow_v2)()
    dtype = str(random.choice(["float64", "float64", "float32"]))
    per_output = operator != "hessian_blocks" and random.rand() < 0.15
    per_output |= operator == "jacobians"
    methods = OF_JACOBIANS if operator == "jacobians" else METHODS
    options = {}
    if operator != "hessian_vector_products":
        options["method"] = methods[random.randint(len(methods))]
    elif apart.rand() < 0.7:
        options["method"] = OF_PRODUCTS[apart.randint(len(OF_PRODUCTS))]
        options["vectors"] = [2, 3, 8][apart.randint(3)]
    if options.get("method") in DETECTED.get(operator, []) and apart.rand() < 0.2:
        options["sparsity"] = "detected"
    if random.rand() < 0.1:
        options["check"] = "always"
    words = [operator, "control flow " + flow, dtype]
    words += sorted("{}={}".format(*item) for item in options.items())
    if operator != "jacobians":
        options["per_output"] = per_output
    return _Asked(operator, options, dtype, per_output, words)


def _compare_with(twin, asked, answers, session, dtype):
    """The verdict by a twin of the model in float64, to which its draws are given."""
    given = asked.operator, twin, asked.options, asked.words
    verdict = compare(*given, answers, session, dtype)
    if verdict.verdict == "WRONG" and dtype != "float64":
        # Is it `dtype` that cannot do better?
        try:
            answers, _ = _answers(asked.operator, twin, asked.options, session)
        except Exception:
            return verdict
        if compare(*given, answers, session).verdict == "right":
            return Verdict("imprecise", asked.words, verdict.detail)
    return verdict


def _kind(kinds, random):
    if kinds is None:
        return (
            sorted(KINDS)[random.randint(len(KINDS))]
            if random.rand() < SPECIAL
            else None
        )
    return kinds[random.randint(len(kinds))] if kinds else None


def _model(draws, dtype, asked, products, special):
    """The model of the seed `draws`, in the default graph."""
    kind, given, narrow = special
    random, apart, more = (
        np.random.RandomState(seed) for seed in (draws, [draws, 1], [draws, 2])
    )
    apart = apart if apart.rand() < products else None
    special = None if kind is None else Special(kind, more, given, narrow)

    blocks = asked.operator == "hessian_blocks"

    def build():
        return draw_model(random, dtype, blocks, asked.per_output, apart, special)

    return read_back(build, more) if kind == "file" else build()


def _session(random):
    """Mostly without Grappler, whose time is most of a short run's."""
    config = tf.ConfigProto(inter_op_parallelism_threads=2)
    plain = random.rand() < 0.75
    config.graph_options.rewrite_options.disable_meta_optimizer = plain
    return tf.Session(config=config)


def _answers(operator, model, options, session):
    """What the operator answers, as arrays [N, ...] with the coordinates flat.

    And a list of what was drawn at random in the same run.
    """
    call = getattr(batchhess, operator)
    options = dict(options, batch_axis=model.axis)
    arguments = [model.ys, model.xs if operator == "hessian_blocks" else model.xs[0]]
    several = options.pop("vectors", None)
    if operator == "hessian_vector_products":
        (v,) = direction_of(model.values, model.axis)[0][:1]
        arguments.append(v if several is None else _one_of(v, model.axis, several))
    if "sparsity" in options:
        options["sparsity"] = batchhess.detect_sparsity(
            *arguments, batch_axis=model.axis, of=operator
        )
    built = call(*arguments, **options)
    gradient = None
    if operator == "derivatives":
        built, gradient = built.hessians, built.gradients[0]
    train = tf.no_op() if model.train is None else model.train
    run = [built, [] if gradient is None else [gradient], [train], model.draws]
    session.run([tf.global_variables_initializer(), model.restart])
    feed = dict(model.feed)
    feed.update(read_fed(model, session, feed))
    found = session.run(run, feed)
    if several is not None:
        answers = np.asarray(found[0][0], np.float64)
        if options["per_output"]:
            return answers[:, :, -1], found[3]
        return np.moveaxis(answers[:, -1], 0, _axis_of(v, model.axis)), found[3]
    if operator != "hessian_blocks":
        return np.asarray(found[0][0], np.float64), found[3]
    n = np.shape(found[0][0][0])[0]
    sizes = [v.size // n for v in model.values]
    whole = np.concatenate(
        [
            np.concatenate(
                [np.reshape(b, [n, a, c]) for b, c in zip(row, sizes)], axis=2
            )
            for row, a in zip(found[0], sizes)
        ],
        axis=1,
    )
    return whole.astype(np.float64), found[3]


def _axis_of(v, axis):
    return axis if v.ndim > 1 else 0


def _one_of(v, axis, count):
    """`v`, of the shape of x, as the last of so many vectors: [N, V, *E]."""
    rows = np.moveaxis(v, _axis_of(v, axis), 0)
    return np.stack([np.cos(i + rows) for i in range(count - 1)] + [rows], 1)


def _short(error):
    lines = [line for line in str(error).splitlines() if line.strip()]
    frames = traceback.extract_tb(error.__traceback__)
    places = [f for f in frames if os.sep + "batchhess" + os.sep in f.filename]
    where = ""
    if places and not isinstance(error, tf.errors.OpError):
        last = places[-1]
        where = " [{}:{}]".format(os.path.basename(last.filename), last.lineno)
    text = " ".join(lines)
    text = text[max(0, text.find("assertion failed")) :][
        :500
    ]  # In 2.x, after the trace.
    return "{}: {}{}".format(type(error).__name__, text, where)


def _judge_error(operator, model, words, error, session):
    ours = any(name + ": " in str(error) for name in (operator, "detect_sparsity"))
    if not (ours and _is_from_here(error)) and not _runs(model, session):
        return "no model", words, _short(error)
    if isinstance(error, tf.errors.OpError):
        if isinstance(error, tf.errors.InvalidArgumentError) and ours:
            alarm = "coupled" in str(error) and not model.coupling
            alarm |= "outside of sparsity" in str(error)  # It was proven.
            excused = model.fed or model.draws or model.train is not None
            alarm |= "was built again" in str(error) and not excused
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
        feed = dict(model.feed)
        feed.update(read_fed(model, session, feed))
        session.run(model.ys, feed)  # Of which 2.21 may make one op that cannot run.
        found = session.run([model.ys, gradients], feed)
    except Exception:  # As on 1.15, where atan2 that broadcasts has no gradient.
        return False
    return all(np.isfinite(value).all() for values in found for value in values)


def verdicts(count, seed, first=0, seconds=None, **options):
    """Yields (number, `Verdict`) from `first` on, until `seconds` are over.

    `options` are those of `judge`.
    """
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
            verdict = judge(seed, number, **options)
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
    for option in ("operators", "kinds"):
        values = getattr(given, option)
        if values is not None:
            command += " ".join([" --" + option] + values)
    return command


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operators", nargs="*", choices=OPERATORS)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    kinds = "draw models of these kinds only; of none if there is none here"
    parser.add_argument("--kinds", nargs="*", choices=sorted(KINDS), help=kinds)
    share = "how often a model begins with products of several shapes"
    parser.add_argument("--products", type=float, default=PRODUCTS, help=share)
    parser.add_argument("--seconds", type=float, help="stop after these")
    parser.add_argument("--verbose", action="store_true", help="tell all verdicts")
    parser.add_argument("--proof", action="store_true", help="judge the proof alone")
    given = parser.parse_args(arguments)
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    # TensorFlow's modules need not be looked through for garbage again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100000, 20, 20)
    if given.proof:
        return 1 if tell_proofs(given.count, given.seed) else 0
    tally, start = collections.Counter(), time.time()
    options = {n: getattr(given, n) for n in ("operators", "products", "kinds")}
    run = given.count, given.seed, given.first, given.seconds
    for number, verdict in verdicts(*run, **options):
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
