"""A short run of random programs; `python tests/random_programs.py` is the long one."""

import pytest
from random_programs import BAD, OPERATORS, judge

SEED = 3


@pytest.mark.parametrize("number", range(12))
def test_a_random_program_is_right_or_refused(number):
    operator = OPERATORS[number % len(OPERATORS)]
    verdict = judge(SEED, number, [operator])
    assert verdict.verdict not in BAD, verdict
