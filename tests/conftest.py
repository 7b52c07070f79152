"""Every test gets its own graph, under the control flow of its own choice."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import pytest

from batchhess import planning
from batchhess.compat import skip_deprecation_warnings, tf

tf.disable_eager_execution()
tf.logging.set_verbosity(tf.logging.ERROR)
skip_deprecation_warnings()

# TensorFlow's modules need not be looked through for garbage again and again.
gc.collect()
gc.freeze()
gc.set_threshold(100000, 20, 20)


# What is run after every change: `-m "not slow"`. Every operator by every method, and
# closed forms, errors, what is explained, and the house.
FAST = {
    "test_calling",
    "test_cases",
    "test_errors",
    "test_explanation",
    "test_matrix",
    "test_structure",
}


# Here many models run once each, and to optimize their graphs is most of that. How the
# library gets on with TensorFlow's optimizer is seen by all other files.
NOT_OPTIMIZED = {
    "test_control_flow",
    "test_copies",
    "test_coordinates",
    "test_differences",
    "test_folds",
    "test_jacobian_checks",
    "test_jacobians",
    "test_observation_axis",
    "test_operators",
    "test_ops",
    "test_plan",
    "test_precision",
    "test_products",
    "test_second_order_facts",
    "test_second_round",
    "test_sparsity",
    "test_special_points",
    "test_symmetric",
    "test_table",
    "test_verification",
    "test_wrong_gradients",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.module.__name__ not in FAST:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["control_flow_v1", "control_flow_v2"])
def control_flow(request):
    """Runs the test under both control flows; answers which one it is."""
    if request.param == "control_flow_v1":
        tf.disable_control_flow_v2()
    else:
        tf.enable_control_flow_v2()
    return request.param


@pytest.fixture(autouse=True)
def graph():
    """A new default graph, and the control flow put back afterwards."""
    enabled = tf.control_flow_v2_enabled()
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        yield graph
    (tf.enable_control_flow_v2 if enabled else tf.disable_control_flow_v2)()


@pytest.fixture(autouse=True)
def session_options(request, monkeypatch):
    """Sessions without an optimizer, for the files that say so."""
    if request.module.__name__ not in NOT_OPTIMIZED:
        return
    plain = tf.ConfigProto()
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    start = tf.Session.__init__

    def started(self, target="", graph=None, config=None):
        start(self, target, graph, config or plain)

    monkeypatch.setattr(tf.Session, "__init__", started)


@pytest.fixture
def random():
    return np.random.RandomState(20261123)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of three observations, whatever their width."""
    monkeypatch.setattr(planning, "block_size", lambda x, size, parts: 3)
