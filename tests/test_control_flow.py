"""Loops, branches, calls and arrays that are built again: right, or left alone."""

import gc

import numpy as np
import pytest
import tensorflow
from oracles import initialize, run, unoptimized

import batchhess
from batchhess.compat import outer_graphs, raw_ops, tf
from batchhess.control_flow import rebuild_control_flow

ROWS = np.array([[0.5, -1.2, 0.8], [1.5, 0.3, -0.4]])


def differences_of_f(y, x, value, feed=None, step=2e-3, initial=()):
    """[N, K, K] by central differences of f itself, of one observation at a time."""
    total = tf.add_n([tf.reduce_sum(t) for t in (y if isinstance(y, list) else [y])])
    count, size = value.shape
    blocks = np.zeros((count, size, size))
    with unoptimized() as session:
        initialize(session)
        for variable, weights in initial:
            variable.load(weights, session)
        f = session.make_callable(total, [x] + list(feed or {}))
        for n, i, j in np.ndindex(count, size, size):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)) if i <= j else ():
                moved = value.copy()
                moved[n, i] += a * step / 2
                moved[n, j] += b * step / 2
                term = a * b * f(moved, *(feed or {}).values()) / step**2
                blocks[n, i, j] += term
                blocks[n, j, i] += term if i < j else 0
    return blocks


def check(y, x, value=ROWS, feed=None, **options):
    """Hessians of `y` are what differences of f say, and are not zero."""
    (hessian,) = batchhess.hessians(y, x, **options)
    result = run(hessian, {**(feed or {}), x: value})
    expected = differences_of_f(y, x, value, feed)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture
def x():
    return tf.placeholder(tf.float64, (None, 3), name="x")


def normalized(h):
    """Layer norm as tf.nn.moments computes it, with a stopped mean."""
    mean, variance = tf.nn.moments(h, [1], keep_dims=True)
    return tf.reduce_sum(((h - mean) / tf.sqrt(variance + 0.1)) ** 3, 1)


def loop(x):
    return tf.while_loop(
        lambda i, _: i < 2, lambda i, a: (i + 1, tf.sin(a) * x), (0, x)
    )[1]


def case(x, index=1):
    return tf.switch_case(
        tf.constant(index),
        [lambda: tf.exp(x), lambda: tf.sin(x) * x**2, lambda: x],
    )


@pytest.mark.parametrize("index", [0, 1, 7, -1])
def test_the_branches_of_a_case_are_built(index, x, control_flow):
    y = case(x, index) * tf.reduce_sum(x, 1)[:, None]
    check(y, x)


def test_moments_in_a_case(x, control_flow):
    index = tf.placeholder_with_default(1, [])
    y = tf.switch_case(index, [lambda: x[:, 0] ** 2, lambda: normalized(x**2)])
    check(y, x)


def batch_normalized(x, training):
    """As tf.layers has it: the moments of the batch, or others, by a placeholder."""
    mean, variance = tf.nn.moments(x, [0])
    mean, variance = tf.cond(
        training, lambda: (mean, variance), lambda: (0.3 + 0 * mean, 2 + 0 * variance)
    )
    return (x - mean) / tf.sqrt(variance + 0.1)


def normalized_in_training(x, training):
    """The moments in the branch itself."""

    def by_moments():
        mean, variance = tf.nn.moments(x, [0])
        return (x - mean) / tf.sqrt(variance + 0.1)

    return tf.cond(training, by_moments, lambda: 2 * x)


@pytest.mark.parametrize("norm", [batch_normalized, normalized_in_training])
def test_batch_norms_that_a_placeholder_switches_off(norm, x, control_flow):
    """In training observations are coupled: refused in the run, or exact."""
    training = tf.placeholder_with_default(False, [], name="training")
    y = norm(tf.sin(x), training) ** 3
    rows = np.concatenate([ROWS, ROWS[::-1] * 0.3 - 0.1])
    results = [batchhess.hessians(y, x, method=m)[0] for m in ("auto", "observations")]
    expected = differences_of_f(y, x, rows)
    for result in results:
        np.testing.assert_allclose(
            run(result, {x: rows}), expected, rtol=1e-4, atol=1e-5
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(results[0], {x: rows, training: True})
    expected = differences_of_f(norm(tf.sin(x), tf.constant(True)) ** 3, x, rows)
    found = run(results[1], {x: rows, training: True})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def dropped(x, training):
    """As tf.layers.dropout has it."""
    return tf.cond(training, lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x))


@pytest.mark.parametrize("norm", [batch_normalized, normalized_in_training])
def test_batch_norms_and_dropout_that_one_placeholder_switches_off(norm, x):
    tf.disable_control_flow_v2()
    training = tf.placeholder_with_default(False, [], name="training")
    y = dropped(norm(tf.sin(x), training), training) ** 3
    (result,) = batchhess.hessians(y, x)
    expected = differences_of_f(y, x, ROWS)
    np.testing.assert_allclose(run(result, {x: ROWS}), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(result, {x: ROWS, training: True})


def standardized(x):
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    return (x - mean) / tf.sqrt(variance + 0.1)


@pytest.mark.parametrize("hidden", [tf.nn.softsign, standardized])
def test_what_a_branch_has_drawn_is_not_drawn_again(hidden, x):
    """Though it is built again, as what comes before is, in another form."""
    tf.disable_control_flow_v2()
    training = tf.placeholder_with_default(True, [], name="training")
    h = hidden(x)
    scaled = tf.cond(
        training,
        lambda: h * tf.random_uniform(tf.shape(h), dtype=tf.float64),
        lambda: 0.25 * h,
    )
    (result,) = batchhess.hessians(scaled**3, x)
    given = tf.placeholder(tf.float64, [None, 3])
    with_given = (given * hidden(x)) ** 3
    with unoptimized() as session:
        runs = [session.run([result, scaled / h], {x: ROWS}) for _ in range(3)]
        runs.append(session.run([result, scaled / h], {x: ROWS, training: False}))
    assert not np.allclose(runs[0][1], runs[1][1])
    np.testing.assert_allclose(runs[3][1], 0.25)
    for found, factors in runs:
        expected = differences_of_f(with_given, x, ROWS, {given: factors})
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_draw_that_x_decides_of_is_refused(x):
    """At another x there would be nothing to read of it."""
    tf.disable_control_flow_v2()
    h = standardized(x)
    draw = lambda: h * tf.random_uniform(tf.shape(h), dtype=tf.float64)  # noqa: E731
    y = tf.cond(tf.reduce_sum(x) > 0, draw, lambda: h)
    with pytest.raises(batchhess.SecondDerivativeError, match="mean constant"):
        batchhess.hessians(y**3, x)


def test_a_branch_that_assigns_a_reference_is_not_built_again(x):
    """Though softsign beside it is differentiated in another form."""
    tf.disable_control_flow_v2()
    count = tf.get_variable(
        "count", initializer=tf.constant(0.0, tf.float64), use_resource=False
    )
    moved = tf.cond(
        tf.placeholder_with_default(True, []),
        lambda: x * tf.assign_add(count, 1.0),
        lambda: x * count,
    )
    y = tf.reduce_sum(tf.nn.softsign(moved), 1)
    try:
        result = batchhess.hessians(y, x)[0]
    except batchhess.UndefinedDerivativeError:
        return
    found = run(result, {x: ROWS})
    expected = -2 * np.sign(ROWS) / (1 + np.abs(ROWS)) ** 3
    np.testing.assert_allclose(found, expected[:, :, None] * np.eye(3), rtol=1e-9)


def test_a_case_whose_index_depends_on_x(x, control_flow):
    index = tf.cast(tf.reduce_sum(x) > 0, tf.int32)
    y = tf.switch_case(index, [lambda: tf.exp(x), lambda: tf.sin(x) * x**2])
    check(y, x)


def reshaped(a, shape):
    """Sine of `a` in a shape that the graph does not tell."""
    return tf.sin(tf.reshape(a, shape))


WAYS_TO_RESHAPE = {
    "branch": lambda i, a, shape: tf.cond(
        i > 0, lambda: reshaped(a, shape), lambda: reshaped(2 * a, shape)
    ),
    "case": lambda i, a, shape: tf.switch_case(
        i, [lambda: reshaped(a, shape), lambda: reshaped(2 * a, shape)]
    ),
    "loop": lambda i, a, shape: tf.while_loop(
        lambda j, _: j < 1,
        lambda j, b: (j + 1, reshaped(b, shape)),
        (0, a),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )[1],
    "call": lambda i, a, shape: tensorflow.function(
        lambda: reshaped(a, shape), autograph=False
    )(),
}


@pytest.mark.parametrize("way", sorted(WAYS_TO_RESHAPE))
def test_a_shape_that_its_author_tells_in_a_loop(way, x, control_flow):
    shape = tf.placeholder(tf.int32, [2])

    def body(i, a):
        a = WAYS_TO_RESHAPE[way](i, a, shape)
        a.set_shape([None, 3])
        return i + 1, a

    y = tf.while_loop(lambda i, _: i < 2, body, (0, x * x[:, :1]))[1]
    check(y, x, feed={shape: ROWS.shape})


def constant_branch(i):
    """Of two constants: only control inputs lead to the predicate."""
    numbers = [lambda n=n: tf.constant(n, tf.float64) for n in (1.0, 2.0)]
    return tf.cond(i > 0, *numbers)


IMPORTED = {
    "loop": loop,
    "loop of branches": lambda x: tf.while_loop(
        lambda i, _: i < 3,
        lambda i, a: (i + 1, tf.cond(i > 0, lambda: tf.sin(a) * x, lambda: a * a)),
        (0, x),
    )[1],
    "loop of a constant branch": lambda x: tf.while_loop(
        lambda i, _: i < 3,
        lambda i, a: (i + 1, tf.sin(a) * x * constant_branch(i)),
        (0, x),
    )[1],
    "map_fn": lambda x: tf.map_fn(lambda row: tf.reduce_sum(tf.sin(row) ** 2) * row, x),
    "loop in a branch": lambda x: tf.cond(
        tf.reduce_sum(x) > -1e3, lambda: loop(x), lambda: x
    ),
}


@pytest.mark.parametrize("way", ["graph_def", "meta_graph", "graph_def in a branch"])
@pytest.mark.parametrize("name", sorted(IMPORTED))
def test_imported_v1_loops(name, way, x):
    """import_graph_def leaves no control flow context to read."""
    tf.disable_control_flow_v2()
    tf.identity(IMPORTED[name](x), name="y")
    exported = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, (None, 3), name="z")

        def bring_in():
            return tf.import_graph_def(
                exported.graph_def, {"x": tf.identity(x)}, ["y:0"], name="in"
            )[0]

        if way == "meta_graph":
            tf.train.import_meta_graph(exported)
            x, y = graph.get_tensor_by_name("x:0"), graph.get_tensor_by_name("y:0")
        elif way == "graph_def":
            y = bring_in()
        else:
            y = tf.cond(tf.constant(True), bring_in, lambda: tf.identity(x))
        try:
            check(y, x)
        except batchhess.SecondDerivativeError as error:
            assert way == "graph_def in a branch", error


def called_twice(x):
    inner = tensorflow.function(lambda a: tf.tanh(a) * a)
    return inner(x) * inner(x**2)


@pytest.mark.parametrize("place", ["before", "beside", "after"])
def test_a_custom_gradient_need_not_be_copied_with_a_loop(place, x):
    """swish has one, in all versions: what comes before a loop stays as it is."""
    tf.disable_control_flow_v2()
    if place == "before":
        y = loop(tf.nn.swish(x))
    elif place == "beside":
        y = loop(x) + tf.nn.swish(x)
    else:
        with pytest.raises(batchhess.SecondDerivativeError) as refusal:
            batchhess.hessians(tf.nn.swish(loop(x)), x)
        assert "not built again because of 'IdentityN'" in str(refusal.value)
        return
    check(y, x)


FUNCTIONS = {
    "plain": lambda x: tf.sin(x) ** 3,
    "calls": called_twice,
    "loop": loop,
    "branch": lambda x: tf.cond(
        tf.reduce_sum(x) > -1e3, lambda: tf.exp(x), lambda: x**2
    ),
    "moments": normalized,
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_imported_functions(name, x):
    """An import leaves of a function what it does, and not its graph."""
    tf.enable_control_flow_v2()
    tf.identity(tensorflow.function(FUNCTIONS[name])(tf.sin(x)), name="y")
    exported = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(exported)
        check(graph.get_tensor_by_name("y:0"), graph.get_tensor_by_name("x:0"))


def test_a_reference_variable_read_in_a_v1_loop(x):
    tf.disable_control_flow_v2()
    v = tf.get_variable("v", initializer=np.float64(1.3), use_resource=False)
    body = lambda i, a: (i + 1, tf.sin(a * v.read_value()) * x)  # noqa: E731
    check(tf.while_loop(lambda i, _: i < 2, body, (0, x))[1], x)


def test_a_variable_read_in_a_loop_is_read_once_outside_of_its_copy(x, control_flow):
    v = tf.get_variable("v", initializer=np.float64(1.3), use_resource=True)
    body = lambda i, a: (i + 1, tf.sin(a * v.read_value()) * x)  # noqa: E731
    y = tf.while_loop(lambda i, _: i < 2, body, (0, x))[1]
    count = len(tf.get_default_graph().get_operations())
    (copy,) = rebuild_control_flow([y], [x], {})
    assert copy is not y
    made = tf.get_default_graph().get_operations()[count:]
    assert len([op for op in made if op.type == "ReadVariableOp"]) == 1
    check(y, x)


def grows(x):
    """An array that starts empty."""
    array = tf.TensorArray(tf.float64, 0, dynamic_size=True, clear_after_read=False)
    step = lambda i, array: (i + 1, array.write(i, tf.sin(x[:, 0]) * x[:, i]))  # noqa: E731
    array = tf.while_loop(lambda i, _: i < 3, step, (0, array))[1]
    return tf.reduce_sum(array.stack() ** 2)


def grows_without_a_loop(x):
    array = tf.TensorArray(tf.float64, 0, dynamic_size=True, clear_after_read=False)
    for i in range(3):
        array = array.write(i, tf.sin(x[:, i]))
    return array.read(0) * array.read(1) * array.read(2)


def concatenated(x):
    array = tf.TensorArray(tf.float64, 3, infer_shape=False, element_shape=[None])
    step = lambda i, array: (i + 1, array.write(i, tf.sin(x[:, i] * x[:, 0])))  # noqa: E731
    array = tf.while_loop(lambda i, _: i < 3, step, (0, array))[1]
    return tf.reduce_sum(array.concat() ** 2)


def split(x):
    array = tf.TensorArray(tf.float64, 2, infer_shape=False, clear_after_read=False)
    array = array.split(tf.transpose(x), [1, 2])
    return tf.reduce_sum(array.read(0)) * tf.sin(tf.reduce_sum(array.read(1), 0))


ARRAYS = [grows, grows_without_a_loop, concatenated, split]


@pytest.mark.parametrize("f", ARRAYS, ids=lambda f: f.__name__)
def test_arrays_that_grow_concatenate_or_split(f, x):
    tf.disable_control_flow_v2()
    rows = ROWS[:1] if f is split else ROWS
    check(f(x), x, rows)


def test_what_a_loop_draws_is_drawn_once(x, control_flow):
    """The predicate has no other way to the loop than through its context."""

    def body(i, a):
        factor = tf.cond(
            tf.random_uniform([]) < 0.5,
            lambda: tf.constant(1.0, tf.float64),
            lambda: tf.constant(2.0, tf.float64),
        )
        return i + 1, tf.sin(a) * factor

    y = tf.while_loop(lambda i, _: i < 3, body, (0, x))[1]
    assert rebuild_control_flow([y], [x], {})[0] is y


def test_an_effect_in_a_function_is_not_repeated(x):
    v = tf.get_variable("v", initializer=np.float64(0), use_resource=True)

    @tensorflow.function
    def f(x):
        v.assign_add(1.0)
        return tf.sin(x)

    y = f(x)
    assert rebuild_control_flow([y], [x], {})[0] is y


def test_an_assertion_in_a_loop_holds_for_its_copy(x, control_flow):
    def body(i, a):
        with tf.control_dependencies([tf.debugging.assert_less(a, tf.ones_like(a))]):
            return i + 1, tf.sin(a) * x

    y = tf.while_loop(lambda i, _: i < 2, body, (0, x))[1]
    (hessian,) = batchhess.hessians(y, x)
    run(hessian, {x: ROWS * 0.1})
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(hessian, {x: ROWS})


def test_an_assertion_in_a_function_holds_for_its_copy(x):
    @tensorflow.function
    def f(x):
        tf.debugging.assert_less(x, tf.ones_like(x))
        return tf.sin(x)

    (hessian,) = batchhess.hessians(f(x), x)
    run(hessian, {x: ROWS * 0.1})
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(hessian, {x: ROWS})


def test_an_assertion_on_what_a_loop_only_counts_holds_for_its_copy(x, control_flow):
    def body(i, a, b):
        with tf.control_dependencies([tf.debugging.assert_less(b, limit)]):
            return i + 1, tf.sin(a) * x, b + 1.0

    limit = tf.placeholder(tf.float32, [])
    y = tf.while_loop(lambda i, *_: i < 3, body, (0, x, 0.0))[1]
    (made,) = rebuild_control_flow([y], [x], {})
    assert made is not y
    run(made, {x: ROWS, limit: 2.5})
    with pytest.raises(tf.errors.InvalidArgumentError, match="did not hold"):
        run(made, {x: ROWS, limit: 1.5})


def test_an_assertion_of_a_loop_in_a_function_holds_for_its_copy(x):
    limit = tf.placeholder(tf.float32, [])

    @tensorflow.function(autograph=False)
    def f(x, limit):
        def body(i, a, b):
            tf.debugging.assert_less(b, limit)
            return i + 1, tf.sin(a) * x, b + 1.0

        return tf.while_loop(lambda i, *_: i < 3, body, (0, x, 0.0))[1]

    y = f(x, limit)
    (made,) = rebuild_control_flow([y], [x], {})
    assert made is not y
    run(made, {x: ROWS, limit: 2.5})
    for fetched in (y, made):
        with pytest.raises(tf.errors.InvalidArgumentError, match="did not hold"):
            run(fetched, {x: ROWS, limit: 1.5})


def test_an_assertion_in_a_function_whose_gradient_alone_is_read_holds(x):
    """Of its outputs, none that waits for the assertion is read."""

    @tensorflow.function(autograph=False)
    def f(z):
        tf.debugging.assert_less(z, tf.ones_like(z))
        return tf.sin(z) * z

    y = tf.gradients(f(x), x, tf.constant(ROWS[::-1]))[0] ** 2
    (made,) = rebuild_control_flow([y], [x], {})
    assert made is not y
    first, second = run([y, made], {x: ROWS * 0.1})
    np.testing.assert_allclose(first, second, rtol=1e-12)
    for fetched in (y, made):
        with pytest.raises(tf.errors.InvalidArgumentError, match="did not hold"):
            run(fetched, {x: ROWS})


def test_a_list_that_is_read_but_for_one_element_is_differentiated(x):
    """By 1.15 too, whose own gradient of it raises."""
    shape = tf.constant([2], tf.int32)
    handle = raw_ops.TensorListFromTensor(tensor=x[:, :2], element_shape=shape)
    rest, _ = raw_ops.TensorListPopBack(
        input_handle=handle, element_shape=shape, element_dtype=tf.float64
    )
    kept = raw_ops.TensorListStack(
        input_handle=rest, element_shape=shape, element_dtype=tf.float64
    )
    (slope,) = tf.gradients(tf.reduce_sum(kept**2), x)
    expected = [[2 * ROWS[0, 0], 2 * ROWS[0, 1], 0], [0, 0, 0]]
    np.testing.assert_allclose(run(slope, {x: ROWS}), expected)


def test_outputs_of_a_loop_are_differentiated_apart():
    tf.enable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 2))
    ones = tf.ones_like(x[:, 0])
    found = tf.foldl(lambda a, b: tf.sin(a) * b, tf.transpose(x), ones)
    (hessian,) = batchhess.hessians(tf.stack([found, found**2], 1), x, per_output=True)
    result = run(hessian, {x: ROWS[:, :2]})
    for m, y in enumerate([found, found**2]):
        expected = differences_of_f(y, x, ROWS[:, :2])
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(result[:, m], expected, atol=1e-4)


def bodies_in_memory():
    """How many bodies of functions of the graph there are, and copies in them."""
    gc.collect()
    bodies = [o for o in gc.get_objects() if type(o).__name__ == "FuncGraph"]
    bodies = [b for b in bodies if tf.get_default_graph() in outer_graphs(b)]
    copies = sum(len(body.as_graph_def().library.function) for body in bodies)
    return len(bodies), copies


def test_models_of_one_graph_do_not_know_of_each_other():
    """Or memory grows with their square: on 1.15 twenty models took 23 GB."""
    known = [bodies_in_memory()]
    for _ in range(4):
        x = tf.placeholder(tf.float64, [None, 12])
        (hessian,) = batchhess.hessians(normalized(tf.sin(x)), x, method="columns")
        assert tf.gradients(hessian, x)[0] is not None
        known.append(bodies_in_memory())
    grown = np.diff(known, axis=0)
    assert (np.ptp(grown, axis=0) == 0).all()


def test_the_hessian_of_a_hessian_of_a_loop(random):
    """TensorFlow 1.15 forgets the shapes of what such a loop hands on."""
    x = tf.placeholder(tf.float64, [None, 1])
    _, a = tf.while_loop(lambda i, a: i < 1, lambda i, a: (i + 1, tf.sin(a)), [0, x])
    (second,) = batchhess.hessians(a, x)
    (fourth,) = batchhess.hessians(second[:, 0, 0], x)
    value = random.randn(3, 1)
    np.testing.assert_allclose(run(fourth, {x: value})[:, 0], np.sin(value), rtol=1e-9)
