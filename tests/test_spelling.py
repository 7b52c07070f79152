"""The page of programs is what the programs are, and builds what they build."""

import collections
import io
import os
import runpy
import sys

import pytest
from programs import PROGRAMS, Setup
from programs.judging import make

from batchhess.compat import tf

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="SKIPPED, NOT PASSED: where a function stands, Python 3.11 knows",
)
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
STEP = 1 if os.environ.get("SECOND_ROUND") == "all" else 12


def ops():
    """How often each op type is in the default graph and its functions."""
    definition = tf.get_default_graph().as_graph_def()
    counted = collections.Counter(node.op for node in definition.node)
    for function in definition.library.function:
        counted.update(node.op for node in function.node_def)
    return counted


@pytest.mark.parametrize(
    "program", [pytest.param(p, id=p.name) for p in PROGRAMS[::STEP]]
)
def test_a_program_s_text_builds_what_the_program_builds(program):
    from spelling import KNOWN, spell

    with tf.Graph().as_default():
        setup, _ = make(program)
        expected = ops()
    definitions, lines = spell(program)
    tf.disable_control_flow_v2()
    with tf.Graph().as_default():
        names = dict(KNOWN, x=tf.placeholder(tf.float64, [None, 4], name="x"))
        exec("\n".join(definitions + lines), names)
        found = ops()
    spare = found - expected
    assert not expected - found
    assert not spare or spare == {"Placeholder": 1}
    if isinstance(names["y"], Setup):
        assert names["y"].options == setup.options
        assert sorted(key.name for key in names["y"].feed) == sorted(
            key.name for key in setup.feed
        )


def test_the_page_is_of_these_programs():
    from spelling import write_programs

    path = os.path.join(ROOT, "benchmarks", "outcomes.py")
    page = io.StringIO()
    write_programs(runpy.run_path(path)["sections"](), page)
    with open(os.path.join(ROOT, "docs", "outcomes_programs.md")) as file:
        assert file.read() == page.getvalue()
