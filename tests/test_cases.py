"""The closed forms of tests/cases.py, by every method."""

import math

import numpy as np
import pytest
from cases import CASES
from oracles import assert_symmetric, run

import batchhess
from batchhess.compat import tf

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def hessian(case, dtype=tf.float64, **options):
    shape = [
        None if a == case.batch_axis else d for a, d in enumerate(case.value.shape)
    ]
    x = tf.placeholder(dtype, shape)
    ys = case.build(x)
    options.setdefault("batch_axis", case.batch_axis)
    return run(batchhess.hessians(ys, x, **options)[0], {x: case.value})


@by_name
def test_columns_equal_the_closed_form(case, control_flow):
    result = hessian(case, method="columns")
    assert result.shape == case.expected.shape
    np.testing.assert_allclose(result, case.expected, rtol=1e-9, atol=case.tolerance)


@by_name
def test_observations_equal_the_closed_form(case):
    result = hessian(case, method="observations")
    np.testing.assert_allclose(result, case.expected, rtol=1e-9, atol=case.tolerance)


@by_name
def test_auto_equals_the_closed_form(case):
    result = hessian(case)
    np.testing.assert_allclose(result, case.expected, rtol=1e-9, atol=case.tolerance)


@by_name
def test_symmetric_equals_the_closed_form(case, control_flow):
    result = hessian(case, method="symmetric")
    np.testing.assert_allclose(result, case.expected, rtol=1e-9, atol=case.tolerance)
    count, size = len(result), int(round(math.sqrt(result[0].size)))
    blocks = result.reshape(count, size, size)
    assert_symmetric(blocks)
