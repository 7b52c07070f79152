"""What goes wrong in a public function begins with the name that the user called."""

import inspect
import threading

import pytest

import batchhess
from batchhess.calling import caller, public, told
from batchhess.compat import tf


def fails(error):
    @public()
    def operator():
        raise error

    with pytest.raises(type(error)) as caught:
        operator()
    return caught.value


def test_errors_begin_with_the_name_of_the_function():
    assert str(fails(ValueError("x is a string."))) == "operator: x is a string."


@pytest.mark.parametrize(
    "error", [KeyError("x"), OSError(2, "No such file"), ValueError(), ValueError(3)]
)
def test_errors_that_are_no_message_stay_as_they_are(error):
    before = error.args
    assert fails(error).args == before


def test_the_name_is_that_of_the_outermost_function():
    @public()
    def inner():
        raise ValueError(told("") + "it failed.")

    @public()
    def outer():
        inner()

    with pytest.raises(ValueError, match="^outer: outer: it failed"):
        outer()
    assert caller() is None


def test_a_name_is_of_its_own_thread():
    found = []

    @public()
    def operator():
        thread = threading.Thread(target=lambda: found.append(told("hello")))
        thread.start()
        thread.join()

    operator()
    assert found == ["hello"]


def test_signatures_stay_literal_and_arguments_are_told_once():
    signature = inspect.signature(batchhess.laplacians)
    assert list(signature.parameters)[:3] == ["ys", "xs", "name"]
    assert signature.parameters["coordinates"].default is None
    told_of = inspect.getdoc(batchhess.laplacians)
    assert "  ys: a Tensor of floating dtype" in told_of
    assert "  coordinates: ints; the sum over these" in told_of
    assert "the columns of these coordinates alone" not in told_of


def test_an_argument_that_is_told_nowhere_is_an_error():
    def operator(ys, unheard_of):
        """Builds nothing."""

    with pytest.raises(KeyError, match="unheard_of"):
        public(like=batchhess.hessians)(operator)


def test_what_fails_in_a_run_begins_with_the_name_too():
    x = tf.placeholder(tf.float32, [None, 2])
    coupled = tf.reduce_sum(x * tf.reduce_mean(x, 0))
    result = batchhess.laplacians(coupled, x)[0]
    with tf.Session() as session:
        with pytest.raises(tf.errors.InvalidArgumentError, match="laplacians: obs"):
            session.run(result, {x: [[1.0, 2.0], [3.0, 4.0]]})
