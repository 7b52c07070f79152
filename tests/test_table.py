"""The table of ops is whole, and its rules keep what the proof takes for granted."""

import re

import pytest
from op_programs import OPS, matrix
from test_ops import K, mixed

from batchhess.analysis.proof import prove, walk_from
from batchhess.analysis.region import region
from batchhess.compat import IS_V1, VERSION, raw_ops, tf
from batchhess.ops import LEFT_OUT
from batchhess.ops.states import BATCHED, FREE, LOOSE, SUM, UNPROVEN
from batchhess.ops.table import UNKNOWN, all_declared

# What is followed, but not applied to a block of observations.
NOT_IN_BLOCKS = {
    "calls a function": "Case If PartitionedCall StatefulPartitionedCall StatelessCase "
    "StatelessIf StatelessWhile While",
    "is of control flow v1": "Merge RefMerge RefSwitch Switch",
    "holds other tensors": "TensorListFromTensor TensorListGather TensorListGetItem "
    "TensorListScatter TensorListScatterV2 TensorListSetItem TensorListStack",
    "has an effect": "Print",
    "has a place in the graph that may be fed": "PlaceholderWithDefault",
    "reads a Variable": "ReadVariableOp",
    "has no second derivative": "CTCLoss CTCLossV2",
    "has observations of several tensors": "IdentityN",
    "is complex": "Complex ComplexAbs Conj FFT FFT2D FFT3D IFFT IFFT2D IFFT3D Imag "
    "IRFFT IRFFT2D Real RFFT RFFT2D",
    "has a sparse factor": "SparseTensorDenseMatMul",
}

# Declared, but not known to TensorFlow 1.15.
SINCE_2 = """BatchMatMulV3 CTCLossV2 CheckNumericsV2 Erfinv
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 MatrixDiagPartV3
    MatrixDiagV3 MatrixSetDiagV3 Ndtri StatelessCase Xlog1py
    BesselI0 BesselI1 BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e BesselY0
    BesselY1 Dawsn Expint FresnelCos FresnelSin Spence"""


def known_to_tensorflow():
    return {name for name in dir(raw_ops) if name[0].isupper()}


def stem(name):
    """The name without what tells its version."""
    name = re.sub(r"^(Batch|Resource|Ref|Stateless)+(?=[A-Z])", "", name)
    return re.sub(r"V\d+$|[23]D$", "", name)


def test_every_followed_op_can_be_applied_to_a_block_or_is_listed():
    listed = " ".join(NOT_IN_BLOCKS.values()).split()
    without = [t for t, d in all_declared().items() if d.follow and not d.inputs]
    assert sorted(without) == sorted(listed)


def test_every_version_of_a_declared_op_is_declared_or_left_out():
    declared = all_declared()
    stems = {stem(name) for name in declared}
    others = {n for n in known_to_tensorflow() - set(declared) if stem(n) in stems}
    others = {name for name in others if not name.endswith("Grad")}
    assert not others - set(LEFT_OUT)
    assert not set(LEFT_OUT) & set(declared)
    if tuple(int(part) for part in VERSION.split(".")[:2]) >= (2, 21):
        assert not set(LEFT_OUT) - others  # Older ones lack some.


def test_every_declared_op_is_one_of_tensorflow():
    unknown = set(all_declared()) - known_to_tensorflow()
    assert sorted(unknown) == (sorted(SINCE_2.split()) if IS_V1 else [])


def test_states_lie_within_their_tensors():
    x = tf.placeholder(tf.float64, (None, K))
    walk = walk_from(x, 0)
    for name in sorted(OPS):
        y = mixed(OPS[name].build(x), x)
        for tensor in [t for op in region([y], x) for t in op.outputs]:
            state = walk.state(tensor)
            assert state.kind in (FREE, BATCHED, LOOSE, SUM, UNPROVEN)
            is_list = tensor.dtype == tf.variant  # Of tensors that have the axis.
            if state.kind == BATCHED and tensor.shape.ndims is not None and not is_list:
                assert 0 <= state.axis < tensor.shape.ndims, (name, tensor)


# Of an axis of a tensor of rank 3 whose observations are on axis 1.
AXES = {
    "Sum": lambda x, a: tf.reduce_sum(x, [a]),
    "Max": lambda x, a: tf.reduce_max(x, [a], keepdims=True),
    "Prod": lambda x, a: tf.reduce_prod(x, [a]),
    "Cumsum": lambda x, a: tf.cumsum(x, a),
    "Cumprod": lambda x, a: tf.math.cumprod(x, a),
    "ExpandDims": lambda x, a: tf.expand_dims(x, a),
    "Squeeze": lambda x, a: tf.squeeze(x[:, :, :1], [a]) if a % 3 == 2 else x,
    "ConcatV2": lambda x, a: tf.concat([x, x], a),
    "Split": lambda x, a: tf.split(x, 2, a)[0] if a % 3 != 1 else x,
    "SplitV": lambda x, a: tf.split(x, [1, 3], a)[1] if a % 3 != 1 else x,
    "Unpack": lambda x, a: tf.unstack(x, axis=a)[0] if a % 3 != 1 else x,
    "ReverseV2": lambda x, a: tf.reverse(x, [a]),
    "Roll": lambda x, a: tf.roll(x, 1, a),
    "GatherV2": lambda x, a: tf.gather(x, [0, 1], axis=a),
    "Softmax": lambda x, a: tf.nn.softmax(x, axis=a),
}


@pytest.mark.parametrize("name", sorted(AXES))
def test_negative_axes_answer_as_positive_ones(name):
    x = tf.placeholder(tf.float64, (4, None, 4))
    for axis in range(3):
        # ExpandDims counts from the end of what it makes.
        negative = axis - (4 if name == "ExpandDims" else 3)
        states = [
            walk_from(x, 1).state(AXES[name](x, a))._replace(op=None)
            for a in (axis, negative)
        ]
        kinds = [(s.kind, s.axis) for s in states]
        assert kinds[0] == kinds[1], axis


# Each makes one observation meet all of another tensor: several, of which x is one.
BROADCASTS = {
    "BroadcastTo": lambda x: tf.broadcast_to(x, [5, K]),
    "Tile": lambda x: tf.tile(x, [5, 1]),
    "Mul": lambda x: x * tf.ones([5, K], tf.float64),
    "SelectV2": lambda x: raw_ops.SelectV2(
        condition=tf.fill([5, K], True), t=x, e=tf.zeros([5, K], tf.float64)
    ),
    "SquaredDifference": lambda x: tf.math.squared_difference(
        x, tf.ones([5, K], tf.float64)
    ),
    "BatchMatMulV2": lambda x: tf.matmul(matrix(x), tf.ones([5, 4, 4], tf.float64)),
    "Pow": lambda x: tf.pow(x, tf.ones([5, K], tf.float64)),
}


@pytest.mark.parametrize("name", sorted(BROADCASTS))
def test_one_observation_broadcast_to_many_is_not_mixed_up(name):
    """All of the 5 are of the one observation: then their maximum is not separable."""
    x = tf.placeholder(tf.float64, (1, K))
    y = BROADCASTS[name](x)
    state = walk_from(x, 0).state(tf.reduce_sum(tf.reduce_max(y, 0)))
    assert state.kind == UNPROVEN


@pytest.mark.parametrize("place", range(3))
def test_x_may_be_any_output_of_an_op(place):
    whole = tf.placeholder(tf.float64, (None, 3, 4))
    outputs = tf.unstack(whole, axis=1)
    x = outputs[place]
    others = [t for t in outputs if t is not x]
    walk = walk_from(x, 0)
    assert walk.state(others[0]).kind == FREE
    assert walk.state(x).is_own
    assert prove([tf.reduce_sum(x * others[1])], walk).kind != UNPROVEN
    assert prove([tf.reduce_sum(tf.reduce_sum(x, 0) ** 2)], walk).kind == UNPROVEN


# What TensorFlow differentiates once only, and says so.
LOUD = {"GatherV2", "Softsign", "SparseSoftmaxCrossEntropyWithLogits"}
# What the guard of the logarithm that they add up tells.
LOUD |= {"Add", "AddV2"}


def test_what_is_written_in_another_form_is_told_where_it_could_not_be():
    """Behind a custom gradient, say, where the model is not built again."""
    for known in all_declared().values():
        if not known.rewrites or known.type in LOUD:
            continue
        assert known.faults or known.guard or known.twice == UNKNOWN, known.type
