"""Breaks the library on purpose, in a copy, and tells whether the tests see it.

Run: python tests/mutations.py [NUMBERS of some mutations]

Each mutation replaces one piece of text, which has to be there once, and runs the file
of tests that should see it. What no test sees ends the program with status 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")

# (file, what is broken, text, text in its place, file of tests)
MUTATIONS = [
    (
        "coupling.py",
        "no coupled observation is found",
        "coupled |= apart & tf.math.is_finite(scaled)",
        "coupled |= apart & (scaled > 1e300)",
        "observation_axis",
    ),
    (
        "building.py",
        "the rebuilt model is not held against the original",
        '    if made.request.check == "never" or made.is_linear:\n        return []',
        "    if True:\n        return []",
        "copies",
    ),
    (
        "copies.py",
        "what is rebuilt in blocks is the same, whatever it is",
        "return tf.reduce_all([_is_same(a, b, x) for a, b in zip(originals, copies)])",
        "return tf.constant(True)",
        "copies",
    ),
    (
        "building.py",
        "variables may change while the model is evaluated",
        "    ops = made.checks.readers\n",
        "    ops = []\n",
        "variables",
    ),
    (
        "analysis/audit.py",
        "no op that TensorFlow differentiates wrongly is found",
        "def _by_the_table(region):\n",
        "def _by_the_table(region):\n    return Findings([], [], [], [])\n",
        "second_order_facts",
    ),
    (
        "ops/reductions.py",
        "a reduction over the observations keeps them apart",
        "    kept = _without_reduced(op, need_batched(states[0]))\n",
        "    kept = _without_reduced(op, need_batched(states[0])) or states[0]\n",
        "table",
    ),
    (
        "ops/reductions.py",
        "what mixes along the observations keeps them apart",
        '        raise NotProvenError("works along the observation axis")',
        "        return state",
        "observation_axis",
    ),
    (
        "building.py",
        "each of several outputs is their sum",
        "hot = tf.cast(tf.equal(tf.range(count), m), y.dtype)",
        "hot = tf.cast(tf.range(count) >= 0, y.dtype)",
        "operators",
    ),
    (
        "graph/layout.py",
        "the observation axis is not brought to the front",
        "            tensor = tf.transpose(tensor, self._order)\n",
        "            pass\n",
        "matrix",
    ),
    (
        "graph/tensors.py",
        "no gradient is an author's own",
        "def has_custom_gradient(op):\n",
        "def has_custom_gradient(op):\n    return False\n\n\ndef _unused(op):\n",
        "copies",
    ),
    (
        "methods/symmetric.py",
        "tangents that something reads are taken for not needed",
        "return any(tensor_key(t) in self.needed for t in op.outputs)",
        "return False",
        "symmetric",
    ),
    (
        "checks.py",
        "no Hessian is far from the differences",
        "def assert_right(wrong, error, defined, messages):\n",
        "def assert_right(wrong, error, defined, messages):\n    wrong &= False\n",
        "verification",
    ),
    (
        "building.py",
        "a pattern of zeros is believed",
        "            checks = [_covered(made, gradient, found)]",
        "            checks = []",
        "sparsity",
    ),
    (
        "jacobian_checks.py",
        "no output sees another observation",
        "def assert_apart(passes, y, x, layout, state):\n",
        "def assert_apart(passes, y, x, layout, state):\n    return tf.no_op()\n",
        "jacobian_checks",
    ),
    (
        "casting.py",
        "integers may become others",
        "    return (found.astype(part.dtype) != part) | ((found < 0) != (part < 0))",
        "    return found != found",
        "feeding",
    ),
    (
        "streaming/lock.py",
        "two may write into one directory",
        "        if not _try_lock(file):",
        "        if False:",
        "storage",
    ),
    (
        "streaming/storage.py",
        "results are not held against their checksums",
        "    def is_sound(self, record):\n",
        "    def is_sound(self, record):\n        return True\n\n"
        "    def _unused(self, record):\n",
        "storage",
    ),
    (
        "streaming/evaluating.py",
        "what depends on the other observations is accepted",
        "    def _check(self, found, start, stop):\n",
        "    def _check(self, found, start, stop):\n        return\n\n"
        "    def _unused(self, found, start, stop):\n",
        "streaming",
    ),
    (
        "models/effects.py",
        "no op of a model does harm",
        "def is_harmful(node, functions):\n",
        "def is_harmful(node, functions):\n    return False\n\n\n"
        "def _unused(node, functions):\n",
        "effects",
    ),
    (
        "streaming/fingerprint.py",
        "all weights are the same model",
        "def _values(session, ops):\n",
        "def _values(session, ops):\n    return []\n\n\ndef _unused(session, ops):\n",
        "storage",
    ),
    (
        "methods/blocks.py",
        "nothing of a loop's body waits for what it reads",
        "def _reads_from_around():\n",
        "def _reads_from_around():\n    return []\n\n\ndef _unused():\n",
        "semantics",
    ),
    (
        "analysis/audit.py",
        "no guard fails the run at a special value",
        "def guards(guarded):\n",
        "def guards(guarded):\n    return []\n\n\ndef _unused(guarded):\n",
        "second_order_facts",
    ),
]


def broken(folder, mutation):
    """A copy of the library and its tests in which one thing is broken."""
    path, _, old, new, _ = mutation
    for part in ("batchhess", "tests", "docs", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            os.path.join(ROOT, part), os.path.join(folder, part), ignore=ignored
        )
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(os.path.join(ROOT, name), folder)
    path = os.path.join(folder, "batchhess", path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.count(old) != 1:
        raise SystemExit("{} has {} times {!r}".format(path, text.count(old), old))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))


def seen(mutation):
    """The test that fails first, or None."""
    with tempfile.TemporaryDirectory() as folder:
        broken(folder, mutation)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "--tb=no"]
        command += ["-p", "no:cacheprovider", "tests/test_{}.py".format(mutation[-1])]
        environment = dict(os.environ, PYTHONPATH=folder)
        run = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED ")]
    return failed[0].split(" - ")[0][len("FAILED tests/") :] if failed else None


def main():
    chosen = [int(number) for number in sys.argv[1:]] or range(1, len(MUTATIONS) + 1)
    unseen = 0
    for number in chosen:
        start, mutation = time.time(), MUTATIONS[number - 1]
        by = seen(mutation)
        unseen += by is None
        told = "{:2} {}: {}: {} ({:.0f} s)"
        where, what = mutation[:2]
        by = by or "SEEN BY NO TEST of test_{}.py".format(mutation[-1])
        print(told.format(number, where, what, by, time.time() - start), flush=True)
    print("{} of {} seen".format(len(chosen) - unseen, len(chosen)))
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
