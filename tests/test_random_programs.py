"""A short run of random programs; `python tests/random_programs.py` is the long one."""

import pytest
from random_programs import BAD, KINDS, OPERATORS, judge

SEED = 3


@pytest.mark.parametrize("number", range(12))
def test_a_random_program_is_right_or_refused(number):
    operator = OPERATORS[number % len(OPERATORS)]
    verdict = judge(SEED, number, [operator], kinds=[])
    assert verdict.verdict not in BAD, verdict


@pytest.mark.parametrize("number", range(8))
def test_diagonals_of_random_products_are_right_or_refused(number):
    operator = ["hessian_diagonals", "laplacians"][number % 2]
    verdict = judge(SEED, number, [operator], products=1, kinds=[])
    assert verdict.verdict not in BAD, verdict


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_program_of_a_special_kind_is_right_or_refused(kind):
    verdict = judge(SEED, 0, ["hessians"], products=0, kinds=[kind])
    assert verdict.verdict not in BAD, verdict
