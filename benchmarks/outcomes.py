"""What TensorFlow and batchhess answer where second derivatives go wrong: tables.

Run: python benchmarks/outcomes.py [--out FILE] [--programs FILE] [--known FILE]
Or, for the program of one row, its x and what comes of it: --row N.
"""

import argparse
import itertools
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests"))

import numpy as np

import batchhess
from batchhess.compat import VERSION, batch_jacobian, tf

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.FATAL)

import test_second_order_facts as facts  # noqa: E402
from programs import EVERY, FAMILIES, WISH, Program  # noqa: E402
from programs.judging import feed_of, make, point, start, truth, wish  # noqa: E402

REFUSALS = (
    batchhess.SecondDerivativeError,
    tf.errors.OpError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    NotImplementedError,
)
PROGRAMS = "outcomes_programs.md"
DOCS = os.path.join(os.path.dirname(__file__), "..", "docs")
HEAD = ["row", "f contains", "largest true entry", "`tf.hessians`, sliced"]
HEAD += ["`batch_jacobian`", "`batchhess`"]


def by_tf_hessians(setup, count):
    whole = tf.hessians(setup.ys, setup.x)[0]
    return tf.stack([whole[n, :, n] for n in range(count)])


def by_batch_jacobian(setup, count):
    return batch_jacobian(tf.gradients(setup.ys, setup.x)[0], setup.x)


def by_batchhess(setup, count):
    if setup.call is not None:
        return setup.call(setup.ys, setup.x)
    return batchhess.hessians(setup.ys, setup.x, **setup.options)[0]


def verdict(error):
    """Whether batchhess says so itself, by the name of the function that was called."""
    says = r"\b({}): ".format("|".join(batchhess.__all__))
    # That of a run comes after where it was built.
    find = re.search if isinstance(error, tf.errors.OpError) else re.match
    return "refused" if find(says, str(error)) else "crashed"


def outcome(program, way, expected):
    """What came of it: "right", "wrong by ...", or the name of the error."""
    with tf.Graph().as_default():
        setup, placeholder = make(program)
        asks = setup.call is not None or "per_output" in setup.options
        if asks and way is not by_batchhess:
            return "not asked"
        try:
            blocks = way(setup, len(program.value))
            fetches = [blocks, list(setup.witness), list(setup.also)]
            with tf.Session() as session:
                start(session, setup)
                feed = feed_of(program, setup, placeholder)
                answer, witness, _ = session.run(fetches, feed)
        except REFUSALS as error:
            what = type(error).__name__
            return (
                "{}: {}".format(verdict(error), what) if way is by_batchhess else what
            )
        if setup.truth is not None:
            expected = setup.truth(*witness)
    if expected is None:
        return "a number"
    error = np.abs(answer - expected).max()
    if np.isnan(error):
        return "NaN"
    right = error <= 1e-2 * np.abs(expected).max() + 1e-6  # As write_tables says.
    if right and program.expected == WISH:
        return "as its author wished"
    return "right" if right else "**wrong by {:.2g}**".format(error)


def truth_of(program):
    """The Hessians, or None where only the run or nobody knows them."""
    with tf.Graph().as_default():
        setup, placeholder = make(program)
        if setup.truth is not None:
            return None
        at = point(program, setup, placeholder)
    if program.expected == WISH:
        try:
            return wish(program, at)
        except REFUSALS:  # So does tf.hessians then.
            return None
    size = at.shape[1]
    pairs = list(itertools.combinations_with_replacement(range(size), 2))
    directions = np.zeros((len(pairs), size))
    for row, (i, j) in zip(directions, pairs):
        row[[i, j]] = 1
    for part in (1, 0.5, 0.25):
        shorter = program._replace(step=program.step * part)
        found = truth(shorter, at, directions)
        largest, doubt = np.abs(found.along).max(), np.max(found.errors)
        if doubt <= 5e-3 * max(largest, 0.2):
            break
    else:
        return None
    along = dict(zip(pairs, np.moveaxis(found.along, 2, 0)))  # of [P, N]
    blocks = np.zeros(found.along.shape[:2] + (size, size))
    for i, j in pairs:
        mixed = (along[i, j] - along[i, i] - along[j, j]) / 2
        blocks[..., i, j] = blocks[..., j, i] = along[i, i] if i == j else mixed
    # Differences of a zero are not zero, but no larger than what they err by.
    blocks *= largest > max(2 * doubt, 1e-9)
    outputs = setup.options.get("per_output", False)
    return np.moveaxis(blocks, 0, 1) if outputs else blocks[0]


def cells_of(program):
    """The largest true entry, and the outcomes by the three ways."""
    if not program.here:
        return ["not in this TensorFlow", "", "", ""]
    expected = truth_of(program)
    known = expected is not None
    largest = "{:.3g}".format(np.abs(expected).max()) if known else "not known"
    ways = (by_tf_hessians, by_batch_jacobian, by_batchhess)
    return [largest] + [outcome(program, way, expected) for way in ways]


# Rows that have no one right answer, or whose gradient TensorFlow loses already.
WITHOUT_TRUTH = ("betainc", "fractional", "random")
# Rows that work in float32, and need longer steps.
SINGLE = set(facts.UNDEFINED) | {"resize_bilinear", "per_image_standardization"}


def facts_of(table, value):
    """Programs of the rows of one of the tables of `test_second_order_facts`."""
    for name in sorted(table, key=name_of):
        single = name in SINGLE or "norm in" in name
        step = 0.1 if single else 0.02
        yield Program(name_of(name), table[name], value=value, step=step)


def name_of(row):
    """A row's name, without the number of the fact that it is from."""
    return re.sub(r"^\d+\w? ", "", row)


def sections():
    """Lists of (title, programs)."""
    at_zero = facts.ROWS.copy()
    at_zero[1, 1] = 0
    refused = {
        row: build
        for row, (build, _) in list(facts.REFUSED.items())
        + sorted(facts.UNDEFINED.items())
        if not any(name in row for name in WITHOUT_TRUTH)
    }
    refused["resize_bilinear"] = facts.LOST["6 resize_bilinear"]
    lost = {row: facts.RIGHT[row] for row in facts.RIGHT if row[0].isdigit()}
    others = {row: facts.RIGHT[row] for row in facts.RIGHT if row not in lost}
    tables = [
        ("Loops of control flow v1", facts.V1, facts.ROWS),
        ("Parts that TensorFlow takes for constant", lost, facts.ROWS),
        ("Products with a zero", facts.PRODUCTS, at_zero),
        ("Coupled observations", facts.COUPLED, facts.FOUR_ROWS),
        ("Ops without a second derivative", refused, facts.ROWS),
        ("The same in a form that is sound, and others", others, facts.ROWS),
    ]
    found = [(title, list(facts_of(table, value))) for title, table, value in tables]
    for family in FAMILIES:
        title = family.__doc__.splitlines()[0].rstrip(".")
        entered = [p for p in EVERY if p.family == family.__name__]
        found.append((title, entered))
    return found


def known_rows(text):
    """From (title, name) to the other cells, as an older table has them."""
    rows, title = {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            title = line[3:]
        if line.startswith("| ["):
            name, *cells = re.split(r" \| ", line[2:-2])[1:]
            rows[title, name] = [cell.strip() for cell in cells]
    return rows


def read(path):
    with open(path) as file:
        return file.read()


def write_tables(out, known):
    print("# Second derivatives, TensorFlow {}\n".format(VERSION), file=out)
    print(
        "For each program: are the Hessians that `tf.hessians`, `batch_jacobian` and "
        "`batchhess` answer\nright, wrong by how much, or is there an error instead, "
        'and which? "Right" is what errs in no\nentry by more than 1e-2 of the largest '
        'true entry, plus 1e-6. "Refused" is an error of\n`batchhess` that names the '
        'op and the cure; "crashed" any other.\n\n'
        "Made by `python benchmarks/outcomes.py`. A row's number leads to its program. "
        "Errors are the\nlargest in absolute value. The truth is of differences of "
        "f's own values, in float64; where an\nauthor has overridden a gradient, it "
        'is his wish, as `tf.hessians` has it. "Not asked": what\n`tf.hessians` has no '
        'word for, as one output of several. "Not known" before the run is what\nthat '
        "draws at random or is fed: there the truth is of the numbers of the same run.",
        file=out,
    )
    number = 0
    for title, programs in sections():
        print("\n## {}\n".format(title), file=out)
        print("| {} |\n{}|".format(" | ".join(HEAD), "|---" * 6), file=out)
        for program in programs:
            number += 1
            row = "[{0}]({1}#row-{0})".format(number, PROGRAMS)
            name = program.name.replace("|", "\\|")
            cells = known.get((title, name)) or cells_of(program)
            print(
                "| {} |".format(" | ".join([row, name] + cells)), file=out, flush=True
            )


def show_row(number):
    """The program of a row, as its page has it, its x, and what comes of it here."""
    programs = [program for _, rows in sections() for program in rows]
    page = read(os.path.join(DOCS, PROGRAMS))
    texts = re.findall(
        r"^### Row \d+\n\n```py\n(.*?)```", page, re.DOTALL | re.MULTILINE
    )
    print(texts[number - 1])
    program = programs[number - 1]
    print("x is fed {}".format(program.value.tolist()))
    for title, cell in zip(HEAD[2:], cells_of(program)):
        if cell:  # All but the first are empty where TensorFlow cannot build it.
            print("{}: {}".format(title, cell))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", metavar="FILE", help="where to; standard output if none"
    )
    help_text = "write the rows' programs, and no tables"
    parser.add_argument("--programs", type=argparse.FileType("w"), help=help_text)
    help_text = "an older table: what it has a row of is not run again"
    parser.add_argument("--known", metavar="FILE", help=help_text)
    help_text = "run row N, and tell its program, its x and what comes of it"
    parser.add_argument("--row", type=int, metavar="N", help=help_text)
    given = parser.parse_args()
    del sys.argv[1:]  # TensorFlow 1.15 reads it too, for flags of its own.
    if given.row is not None:
        show_row(given.row)
        return
    if given.programs is None:
        known = known_rows(read(given.known)) if given.known else {}
        write_tables(open(given.out, "w") if given.out else sys.stdout, known)
        return
    from spelling import write_programs

    write_programs(sections(), given.programs)


if __name__ == "__main__":
    main()
