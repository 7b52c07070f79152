"""The proof: which axis of each tensor between x and f is the observation axis.

Every tensor gets a `State`. A rule for each op says how the states of its inputs make
that of its output; an op without a rule proves nothing. f is separable if its own state
is anything but `MIXED`.
"""

import collections

from batchhess.analysis.region import carries_derivative, tensor_key
from batchhess.analysis.sizes import dimensions_of, elements_of, product_of
from batchhess.compat import (
    captured_from,
    function_graph,
    source_tensor,
    static_value,
)

# Does not depend on x.
FREE = "free"
# Index n of `axis` depends on one observation alone: the one that `rows` maps n to.
ROWS = "rows"
# Each element depends on one observation alone. Which one is not followed, but is the
# same at the same place of tensors with equal `rows`.
LOOSE = "loose"
# Each element is a sum over observations of functions of one observation each.
SUM = "sum"
# Nothing is proven: `reason` says where and why.
MIXED = "mixed"

# `rows` where index n is observation n itself.
OWN = "x"


class State(collections.namedtuple("State", "kind axis rows op reason")):
    """What is known of a tensor's observations; `op` and `reason` say why no more."""

    @property
    def is_own(self):
        """Whether index n of `axis` is observation n."""
        return (self.kind, self.rows) == (ROWS, OWN)


_FREE = State(FREE, None, None, None, None)
_LOOSE = State(LOOSE, None, None, None, None)
_SUM = State(SUM, None, None, None, None)


class NotProvenError(Exception):
    """What was asked of an op cannot be read from the graph: the message says why."""


def prove(ys, x, batch_axis):
    """Whether `ys` are proven to be sums over observations of a function of each alone.

    Args:
      ys: list of Tensors.
      x: a Tensor or Variable of known rank.
      batch_axis: int, the observation axis of `x`.

    Returns:
      the `State` of the first y that is not proven, of kind `MIXED`; else that of the
      first y.
    """
    walk = walk_from(x, batch_axis)
    states = [walk.state(y) for y in ys]
    return next((state for state in states if state.kind == MIXED), states[0])


def walk_from(x, batch_axis):
    """The `Walk` that starts from the observations of `x`, whose `rows` are `OWN`."""
    start = State(ROWS, batch_axis % x.shape.ndims, OWN, None, None)
    return Walk({tensor_key(source_tensor(x)): start})


class Walk:
    """States of tensors, found by walking back to tensors whose state is known."""

    def __init__(self, known):
        self._states = dict(known)

    def state(self, tensor):
        """The `State` of `tensor`."""
        pending, entered = [tensor], set()
        while pending:
            current = pending[-1]
            key = tensor_key(current)
            if key in self._states:
                pending.pop()
                continue
            parents = self._parents(current)
            unknown = [p for p in parents if tensor_key(p) not in self._states]
            if not unknown:
                self._enter_outputs(current, parents)
                pending.pop()
            elif key in entered:  # A loop of control flow v1 leads back here.
                self._states[key] = _mixed(current.op, "is part of a v1 while loop")
                pending.pop()
            else:
                entered.add(key)
                pending.extend(unknown)
        return self._states[tensor_key(tensor)]

    def keeps_rows(self, tensor):
        """Whether index n of an axis of `tensor` is observation n."""
        return self.state(tensor).is_own

    def _parents(self, tensor):
        if not carries_derivative(tensor):
            return []
        outer = captured_from(tensor)
        return list(tensor.op.inputs) if outer is None else [outer]

    def _enter_outputs(self, tensor, parents):
        if not carries_derivative(tensor):
            self._states[tensor_key(tensor)] = _FREE
        elif captured_from(tensor) is not None:
            self._states[tensor_key(tensor)] = self._states[tensor_key(parents[0])]
        else:
            states = [self._states[tensor_key(p)] for p in parents]
            for output, state in zip(
                tensor.op.outputs, _after(tensor.op, states, self.state)
            ):
                free = not carries_derivative(output)
                self._states[tensor_key(output)] = _FREE if free else state


def _after(op, states, state_of):
    """The states of the outputs of `op`; `state_of` answers that of any Tensor."""
    count = len(op.outputs)
    if all(state.kind == FREE for state in states):
        return [_FREE] * count
    for state in states:
        if state.kind == MIXED:
            return [state] * count
    if op.type not in _RULES:
        return [_mixed(op, "has no rule")] * count
    try:
        rule = _RULES[op.type]
        needs_sizes = op.type in ("Reshape", "GatherNd")
        result = rule(op, states, state_of) if needs_sizes else rule(op, states)
    except NotProvenError as why:
        return [_mixed(op, str(why))] * count
    results = result if isinstance(result, list) else [result] * count
    return [_labelled(state, (op, i)) for i, state in enumerate(results)]


def _labelled(state, label):
    """Gives elements that have just become `LOOSE` a name of their own."""
    return state._replace(rows=label) if state == _LOOSE else state


def _mixed(op, reason):
    return State(MIXED, None, None, op, reason)


def _rows(axis, rows):
    return State(ROWS, axis, rows, None, None)


# The rules. Each is (op, states of its inputs) -> State, or a list of one per output.

_RULES = {}


def _rule(*types):
    def enter(function):
        for op_type in types:
            assert op_type not in _RULES, op_type
            _RULES[op_type] = function
        return function

    return enter


_NONLINEAR_ELEMENTWISE = """
    Abs Acos Acosh Asin Asinh Atan Atan2 Atanh BesselI0e BesselI1e Betainc
    ClipByValue Cos Cosh Digamma Div DivNoNan Elu EluGrad Erf Erfc Erfinv Exp Expm1
    FloorMod Igamma Igammac Inv InvGrad LeakyRelu LeakyReluGrad Lgamma Log Log1p
    Maximum Minimum Mod MulNoNan Ndtri Polygamma Pow Reciprocal ReciprocalGrad Relu
    Relu6 Relu6Grad ReluGrad Rsqrt RsqrtGrad Selu SeluGrad Sigmoid SigmoidGrad Sin
    Sinh Softplus SoftplusGrad Softsign SoftsignGrad Sqrt SqrtGrad Square
    SquaredDifference Tan Tanh TanhGrad TruncateDiv Xdivy Xlog1py Xlogy Zeta
""".split()

_SUMS = ["Add", "AddV2", "AddN", "Sub", "BiasAdd", "Select", "SelectV2"]
_MULTIPLES = ["Mul", "RealDiv", "Neg", "Cast"]

# Ops whose output at one place depends on the inputs at that place, after broadcasting.
ELEMENTWISE = frozenset(_NONLINEAR_ELEMENTWISE + _SUMS + _MULTIPLES)


@_rule(*_NONLINEAR_ELEMENTWISE)
def _elementwise(op, states):
    """Elements that stand at the same place, after broadcasting, meet each other."""
    inputs = [(t, s) for t, s in zip(op.inputs, states) if s.kind != FREE]
    kinds = {s.kind for _, s in inputs}
    if SUM in kinds:
        raise NotProvenError("is not linear, and acts on a sum over observations")
    if LOOSE in kinds:
        if len({s.rows for _, s in inputs} | kinds) > 2:
            raise NotProvenError(
                "combines elements whose observations are not followed"
            )
        return inputs[0][1]
    return _aligned(op, inputs, op.outputs[0].shape.ndims)


def _aligned(op, inputs, rank):
    """The state of an op whose inputs broadcast against each other to `rank` axes."""
    from_right = {_rank(t) - s.axis for t, s in inputs}
    if len(from_right) > 1 or len({s.rows for _, s in inputs}) > 1:
        raise NotProvenError("broadcasts observations against other observations")
    if rank is None:
        raise NotProvenError("has an output of unknown rank")
    return _rows(rank - from_right.pop(), inputs[0][1].rows)


@_rule(*_SUMS + ["Merge"])
def _linear(op, states):
    """Sums of separable sums are separable. Where x picks a branch, by steps only."""
    inputs = [(t, s) for t, s in zip(op.inputs, states) if s.kind != FREE]
    if all(s.kind == SUM for _, s in inputs):
        state = _SUM
    elif op.type == "BiasAdd":
        if states[1].kind != FREE:
            raise NotProvenError("adds a bias that depends on x")
        state = states[0]
    else:
        state = _elementwise(op, states)
    return [state, _FREE] if op.type == "Merge" else state


@_rule(*_MULTIPLES + ["ZerosLike"])
def _scaling(op, states):
    if states[0].kind == SUM and all(s.kind == FREE for s in states[1:]):
        return _SUM
    if op.type == "Mul" and states[1].kind == SUM and states[0].kind == FREE:
        return _SUM
    return _elementwise(op, states)


@_rule(
    "CheckNumerics",
    "CheckNumericsV2",
    "EnsureShape",
    "Identity",
    "PlaceholderWithDefault",
    "PreventGradient",
    "Print",
    "PrintV2",
    "Snapshot",
    "ReadVariableOp",
    "Switch",
    "RefSwitch",
)
def _same(op, states):
    del op
    return states[0]


@_rule("IdentityN")
def _each_same(op, states):
    del op
    return states


def _copying(op, states):
    """For an op whose output elements are copies of input elements, wherever from."""
    if any(s.kind == SUM for s in states):
        others = [s for s in states if s.kind not in (SUM, FREE)]
        if others:
            raise NotProvenError(
                "joins a sum over observations with single observations"
            )
        return _SUM
    return _LOOSE


@_rule("Sum", "Mean")
def _sum(op, states):
    state = states[0]
    if state.kind != ROWS:
        return _SUM
    return _without_reduced(op, state) or _SUM


@_rule("Max", "Min", "Prod", "EuclideanNorm")
def _reduction(op, states):
    state = _need_rows(states[0])
    kept = _without_reduced(op, state)
    if kept is None:
        raise NotProvenError("reduces over the observation axis, and is not linear")
    return kept


@_rule("L2Loss")
def _l2_loss(op, states):
    del op
    _need_each(states[0])
    return _SUM


def _without_reduced(op, state):
    """The state after the reduction `op`; None if it reduces the observation axis."""
    axes = _static(op, 1, "reduces over axes that the graph does not tell")
    rank = _rank(op.inputs[0])
    axes = {int(a) % rank for a in axes.reshape(-1)}
    if state.axis in axes:
        return None
    if op.get_attr("keep_dims"):
        return state
    return _rows(state.axis - sum(a < state.axis for a in axes), state.rows)


@_rule("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def _matmul(op, states):
    if op.type == "MatMul":
        flips = [op.get_attr("transpose_a"), op.get_attr("transpose_b")]
    else:
        flips = [op.get_attr("adj_x"), op.get_attr("adj_y")]
    roles = []
    for side, (tensor, state, flip) in enumerate(zip(op.inputs, states, flips)):
        if state.kind == FREE:
            continue
        if state.kind != ROWS:  # Each product holds one element of it; they are added.
            roles.append("contracted" if state.kind == LOOSE else SUM)
            continue
        from_right = _rank(tensor) - state.axis
        if from_right > 2:
            roles.append(from_right)
        else:  # The last two axes are (row, contracted) or (contracted, column).
            inner = (from_right == 1) ^ (side == 1) ^ flip
            roles.append("contracted" if inner else ("row", "column")[side])
    alive = [s for s in states if s.kind != FREE]
    if len(roles) == 2:
        same = all(s.kind == ROWS for s in alive) and alive[0].rows == alive[1].rows
        if not same or roles[0] != roles[1]:
            raise NotProvenError("multiplies observations with other observations")
    role, rank = roles[0], op.outputs[0].shape.ndims
    if role in ("contracted", SUM):
        return _SUM
    if rank is None:
        raise NotProvenError("has an output of unknown rank")
    place = {"row": 2, "column": 1}.get(role, role)
    return _rows(rank - place, alive[0].rows)


@_rule("Einsum")
def _einsum(op, states):
    terms, output = einsum_labels(op)
    letters, rows = set(), set()
    for labels, state in zip(terms, states):
        if state.kind == FREE:
            continue
        if state.kind != ROWS:
            if sum(s.kind != FREE for s in states) > 1:
                raise NotProvenError("multiplies observations with other observations")
            return _SUM
        letters.add(labels[state.axis])
        rows.add(state.rows)
        if labels.count(labels[state.axis]) > 1:
            raise NotProvenError("takes a diagonal over the observation axis")
    if len(letters) > 1 or len(rows) > 1:
        raise NotProvenError("multiplies observations with other observations")
    letter = letters.pop()
    return _rows(output.index(letter), rows.pop()) if letter in output else _SUM


def einsum_labels(op):
    """The labels of each axis of each input of an Einsum, and those of its output.

    Those that an ellipsis stands for are numbers, counted from the right.
    """
    equation = op.get_attr("equation")
    equation = equation.decode() if isinstance(equation, bytes) else equation
    terms, output = equation.replace(" ", "").split("->")
    return [
        _expand(term, _rank(tensor))
        for term, tensor in zip(terms.split(","), op.inputs)
    ], _expand(output, op.outputs[0].shape.ndims)


def _expand(term, rank):
    if rank is None:
        raise NotProvenError("has a tensor of unknown rank")
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    hidden = rank - len(before) - len(after)
    return list(before) + [-place for place in range(hidden, 0, -1)] + list(after)


@_rule("Reshape")
def _reshape(op, states, state_of):
    state, before = states[0], dimensions_of(op.inputs[0])
    if state.kind != ROWS or before is None:
        return _copying(op, states)
    after = dimensions_of(op.outputs[0]) or elements_of(op.inputs[1]) or []
    asked = elements_of(op.inputs[1]) or []
    if len(asked) == len(after):
        after = [a if isinstance(a, int) else b for a, b in zip(after, asked)]
    places = [
        place
        for place in range(len(after))
        if _same_product(before[: state.axis], after[:place])
    ]
    for place in places:
        same_rest = _same_product(before[state.axis + 1 :], after[place + 1 :])
        if same_rest or _same_size(before[state.axis], after[place], state, state_of):
            return _rows(place, state.rows)
    for place in places:
        rows = _folded(state.rows, before[state.axis + 1 :], after[place + 1 :])
        if rows is not None:
            return _rows(place, rows)
    return _copying(op, states)


def _folded(rows, before, after):
    """The `rows` where an axis takes in others, or gives them up, in a Reshape.

    Index m of [N T, d], made of [N, T, d], is of observation m // T.

    Args:
      rows: of the axis before it.
      before: list of the sizes behind the axis.
      after: list of the sizes behind it afterwards.

    Returns:
      `rows`, or None if an index would hold parts of several observations.
    """
    if not all(isinstance(d, int) and d > 0 for d in before + after):
        return None
    inner, each = rows[1:] if rows[0] == "folded" else (rows, 1)
    each, rest = divmod(each * product_of(before), product_of(after))
    if rest or not each:
        return None
    return inner if each == 1 else ("folded", inner, each)


def _same_product(before, after):
    """Whether two lists of sizes surely have the same product, which is not zero."""
    if not all(isinstance(d, int) for d in before + after):
        return False
    return product_of(before) == product_of(after) != 0


def _same_size(size, other, state, state_of):
    """Whether `other` is as large as the observation axis of `state`, of `size`."""
    if isinstance(size, int) or isinstance(other, int) or other is None:
        return isinstance(size, int) and size == other and size > 0
    measured = state_of(other.tensor)
    return (measured.kind, measured.axis, measured.rows) == (
        ROWS,
        other.axis,
        state.rows,
    )


@_rule("Transpose")
def _transpose(op, states):
    if states[0].kind != ROWS:
        return _copying(op, states)
    order = _static(op, 1, "reorders axes in a way that the graph does not tell")
    return _rows([int(a) for a in order].index(states[0].axis), states[0].rows)


@_rule("ExpandDims")
def _expand_dims(op, states):
    axis = static_value(op.inputs[1])
    if states[0].kind != ROWS or axis is None:
        return _copying(op, states)
    new = int(axis.reshape(-1)[0]) % (_rank(op.inputs[0]) + 1)
    return _rows(states[0].axis + (new <= states[0].axis), states[0].rows)


@_rule("Squeeze")
def _squeeze(op, states):
    dims = op.get_attr("squeeze_dims")
    if states[0].kind != ROWS or not dims:
        return _copying(op, states)
    gone = {d % _rank(op.inputs[0]) for d in dims}
    if states[0].axis in gone:
        return _LOOSE
    return _rows(states[0].axis - sum(d < states[0].axis for d in gone), states[0].rows)


def _along(op, states, axis):
    """For an op that rearranges along `axis` alone; None where it is not known."""
    alive = [s for s in states if s.kind != FREE]
    if axis is None or any(s.kind != ROWS for s in alive):
        return _copying(op, states)
    if len({(s.axis, s.rows) for s in alive}) > 1 or alive[0].axis == axis:
        return _LOOSE
    return alive[0]


@_rule("ConcatV2")
def _concat(op, states):
    return _along(op, states[:-1], _axis(op, len(op.inputs) - 1, op.inputs[0]))


@_rule("Split")
def _split(op, states):
    return _along(op, states[1:], _axis(op, 0, op.inputs[1]))


@_rule("SplitV")
def _split_v(op, states):
    return _along(op, states[:1], _axis(op, 2, op.inputs[0]))


@_rule("ReverseV2", "Roll")
def _rearrange(op, states):
    axes = static_value(op.inputs[-1])
    if axes is None or states[0].kind != ROWS:
        return _copying(op, states)
    touched = {int(a) % _rank(op.inputs[0]) for a in axes.reshape(-1)}
    return _LOOSE if states[0].axis in touched else states[0]


@_rule("Pack")
def _pack(op, states):
    alive = [s for s in states if s.kind != FREE]
    if any(s.kind != ROWS for s in alive) or len({(s.axis, s.rows) for s in alive}) > 1:
        return _copying(op, states)
    new = op.get_attr("axis") % (_rank(op.inputs[0]) + 1)
    return _rows(alive[0].axis + (new <= alive[0].axis), alive[0].rows)


@_rule("Unpack")
def _unpack(op, states):
    if states[0].kind != ROWS:
        return _copying(op, states)
    gone = op.get_attr("axis") % _rank(op.inputs[0])
    if gone == states[0].axis:
        return _LOOSE
    return _rows(states[0].axis - (gone < states[0].axis), states[0].rows)


@_rule("Slice")
def _slice(op, states):
    state = states[0]
    begin, size = static_value(op.inputs[1]), static_value(op.inputs[2])
    if state.kind != ROWS or begin is None or size is None:
        return _copying(op, states)
    whole = begin[state.axis] == 0 and size[state.axis] == -1
    return state if whole else _LOOSE


@_rule("StridedSlice")
def _strided_slice(op, states):
    state = states[0]
    parts = [static_value(t) for t in op.inputs[1:4]]
    if state.kind != ROWS or any(p is None for p in parts):
        return _copying(op, states)
    masks = {
        m: op.get_attr(m + "_mask")
        for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    begin, end, strides = parts
    rank, axis, place = _rank(op.inputs[0]), 0, 0  # Of the input, and of the output.
    for i in range(len(begin)):
        bit = 1 << i
        if masks["ellipsis"] & bit:
            later = sum(
                not masks["new_axis"] >> j & 1 for j in range(i + 1, len(begin))
            )
            hidden = rank - axis - later
            if axis <= state.axis < axis + hidden:
                return _rows(place + state.axis - axis, state.rows)
            axis, place = axis + hidden, place + hidden
        elif masks["new_axis"] & bit:
            place += 1
        else:
            shrinks = bool(masks["shrink_axis"] & bit)
            if axis == state.axis:
                whole = masks["begin"] & bit and masks["end"] & bit and strides[i] == 1
                if shrinks or not whole:
                    rows = ("slice", state.rows, begin[i], end[i], strides[i], bit)
                    rows += tuple(bool(masks[m] & bit) for m in ("begin", "end"))
                    return _LOOSE if shrinks else _rows(place, rows)
                return _rows(place, state.rows)
            axis, place = axis + 1, place + (not shrinks)
    return _rows(place + state.axis - axis, state.rows)


@_rule("Pad", "PadV2", "MirrorPad")
def _pad(op, states):
    if len(states) > 2 and states[2].kind != FREE:
        raise NotProvenError("pads with a value that depends on x")
    widths = static_value(op.inputs[1])
    if states[0].kind != ROWS or widths is None or widths[states[0].axis].any():
        return _copying(op, states)
    return states[0]


@_rule("Tile")
def _tile(op, states):
    state, times = states[0], op.inputs[1]
    known = static_value(times)
    if state.kind != ROWS:
        return _copying(op, states)
    if known is not None and int(known[state.axis]) == 1:
        return state
    if times.op.type == "Pack":
        one = static_value(times.op.inputs[state.axis])
        if one is not None and int(one) == 1:
            return state
    return _LOOSE


@_rule("BroadcastTo")
def _broadcast_to(op, states):
    if states[0].kind != ROWS:
        return _copying(op, states)
    return _aligned(op, [(op.inputs[0], states[0])], op.outputs[0].shape.ndims)


@_rule("GatherV2")
def _gather(op, states):
    state, axis = states[0], _axis(op, 2, op.inputs[0])
    places = op.inputs[1].shape.ndims
    batch = op.get_attr("batch_dims") if "batch_dims" in op.node_def.attr else 0
    if state.kind != ROWS or axis is None or places is None:
        return _copying(op, states)
    if state.axis < axis:
        return state
    if state.axis == axis:
        rows = ("gather", state.rows, tensor_key(op.inputs[1]))
        return _rows(axis, rows) if places == 1 and not batch else _LOOSE
    return _rows(state.axis + places - batch - 1, state.rows)


@_rule("GatherNd")
def _gather_nd(op, states, state_of):
    state, indices = states[0], op.inputs[1].op
    leading = state.kind == ROWS and state.axis == 0
    if leading and indices.type == "Pack" and op.inputs[1].shape.ndims == 2:
        # tf.stack([tf.range(N), ...], axis=1): element n is taken from observation n.
        in_order = _is_range(indices.inputs[0], op.inputs[0], state, state_of)
        if indices.get_attr("axis") in (1, -1) and in_order:
            return _rows(0, state.rows)
    return _copying(op, states)


def _is_range(tensor, params, state, state_of):
    """Whether `tensor` is tf.range over the observations of `params`."""
    if tensor.op.type != "Range":
        return False
    start, limit, delta = (elements_of(t) for t in tensor.op.inputs)
    size = dimensions_of(params)[0]
    return (start, delta) == ([0], [1]) and _same_size(size, limit[0], state, state_of)


@_rule("Softmax", "LogSoftmax", "TopKV2", "Cumsum", "Cumprod", "CumulativeLogsumexp")
def _along_last(op, states):
    """Mixes along one axis, which is the last if no input tells."""
    state = states[0]
    if op.type.startswith("Cumul") or op.type in ("Cumsum", "Cumprod"):
        axis = _axis(op, 1, op.inputs[0])
    else:
        axis = _rank(op.inputs[0]) - 1
    if state.kind == SUM and op.type == "Cumsum":
        return _SUM
    if op.type == "Cumsum" and (state.kind == LOOSE or state.axis == axis):
        return _SUM
    _need_rows(state)
    if axis is None or state.axis == axis:
        raise NotProvenError("works along the observation axis")
    return state


@_rule("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")
def _cross_entropy(op, states):
    inputs = [(t, s) for t, s in zip(op.inputs, states) if s.kind != FREE]
    for _, state in inputs:
        if _need_rows(state).axis != 0:
            raise NotProvenError("takes the softmax along the observation axis")
    if len({s.rows for _, s in inputs}) > 1:
        raise NotProvenError("meets labels of other observations")
    return inputs[0][1]


@_rule(
    *"""AvgPool AvgPool3D Conv2D Conv3D DepthwiseConv2dNative LRN MaxPool MaxPool3D
    DepthToSpace SpaceToDepth ResizeBilinear ResizeBicubic ResizeNearestNeighbor
    Conv2DBackpropInput Dilation2D ExtractImagePatches""".split()
)
def _image(op, states):
    """Images on axis 0, and filters that do not depend on x."""
    place = 2 if op.type == "Conv2DBackpropInput" else 0
    state = states[place]
    if any(s.kind != FREE for i, s in enumerate(states) if i != place):
        raise NotProvenError("has a filter that depends on x")
    if _need_rows(state).axis != 0:
        raise NotProvenError("mixes along the observation axis")
    return state


@_rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def _batch_norm(op, states):
    if op.get_attr("is_training"):
        raise NotProvenError("normalizes by statistics of the batch")
    if any(s.kind != FREE for s in states[1:]):
        raise NotProvenError("has parameters that depend on x")
    return [_need_each(states[0])] + [_FREE] * (len(op.outputs) - 1)


@_rule(
    *"""BatchMatrixDeterminant Cholesky LogMatrixDeterminant MatrixBandPart
    MatrixDeterminant MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixExponential
    MatrixInverse MatrixLogarithm MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3
    MatrixSquareRoot Qr SelfAdjointEigV2 Svd""".split()
)
def _matrices(op, states):
    """One matrix after another: the observations lie before the last two axes."""
    inputs = [(t, s) for t, s in zip(op.inputs, states) if s.kind != FREE]
    axes = {(_need_rows(s).axis, s.rows) for _, s in inputs}
    if len(axes) > 1 or any(_rank(t) - s.axis <= 1 for t, s in inputs):
        raise NotProvenError("mixes along the observation axis")
    if states[0].kind != FREE and _rank(op.inputs[0]) - states[0].axis <= 2:
        raise NotProvenError("mixes along the observation axis")
    if states[0].kind == FREE:
        raise NotProvenError("sets observations into a matrix")
    return inputs[0][1]


@_rule("CTCLoss")
def _ctc_loss(op, states):
    """Inputs [time, N, classes]; outputs the losses [N], and the gradient as inputs."""
    if _need_rows(states[0]).axis != 1 or any(s.kind != FREE for s in states[1:]):
        raise NotProvenError("mixes along the observation axis")
    return [_rows(0, states[0].rows), states[0]]


@_rule("MatrixDiag", "MatrixDiagV2", "MatrixDiagV3")
def _matrix_diag(op, states):
    state = _need_rows(states[0])
    if any(s.kind != FREE for s in states[1:]) or state.axis == _rank(op.inputs[0]) - 1:
        return _copying(op, states)
    return state


@_rule("MatrixSolve", "MatrixTriangularSolve")
def _solve(op, states):
    matrix, right = states[:2]
    if matrix.kind == FREE:  # Each column is solved alone, and is linear in it.
        if right.kind != ROWS:
            return _SUM
        from_right = _rank(op.inputs[1]) - right.axis
        if from_right == 2:
            return _SUM
        return _aligned(op, [(op.inputs[1], right)], op.outputs[0].shape.ndims)
    inputs = [(t, s) for t, s in zip(op.inputs, states) if s.kind != FREE]
    for tensor, state in inputs:
        if _rank(tensor) - _need_rows(state).axis <= 2:
            raise NotProvenError("solves across the observation axis")
    return _aligned(op, inputs, op.outputs[0].shape.ndims)


@_rule("TensorListFromTensor")
def _list_of_slices(op, states):
    """The state of a list is that of each of its elements."""
    if _need_rows(states[0]).axis == 0:
        raise NotProvenError("makes a list of single observations")
    return _rows(states[0].axis - 1, states[0].rows)


@_rule("TensorListSetItem")
def _set_item(op, states):
    alive = [_need_rows(s) for s in (states[0], states[2]) if s.kind != FREE]
    if alive[0] != alive[-1]:
        raise NotProvenError("joins different observations in one list")
    return alive[0]


@_rule("TensorListGetItem")
def _get_item(op, states):
    return _need_rows(states[0])


@_rule("TensorListGather", "TensorListStack")
def _stack_of_items(op, states):
    return _rows(_need_rows(states[0]).axis + 1, states[0].rows)


@_rule("PartitionedCall", "StatefulPartitionedCall")
def _call(op, states):
    return _body(op, "f", states)


@_rule("If", "StatelessIf")
def _cond(op, states):
    branches = [_body(op, b, states[1:]) for b in ("then_branch", "else_branch")]
    return [_joined(op, pair) for pair in zip(*branches)]


@_rule("While", "StatelessWhile")
def _while(op, states):
    for _ in range(len(states) + 1):
        after = _body(op, "body", states)
        joined = [_joined(op, pair) for pair in zip(states, after)]
        joined = [_labelled(state, (op, i)) for i, state in enumerate(joined)]
        if joined == list(states):
            return joined
        states = joined
    raise NotProvenError("carries values whose observations change from step to step")


def _joined(op, states):
    """The state of a value that is one of two."""
    alive = [s for s in states if s.kind != FREE]
    if not alive or all(s == alive[0] for s in alive):
        return alive[0] if alive else _FREE
    mixed = [s for s in alive if s.kind == MIXED]
    if mixed:
        return mixed[0]
    if all(s.kind in (ROWS, LOOSE) for s in alive):
        return _LOOSE
    return _mixed(op, "joins values of different kinds")


def _body(op, attribute, states):
    """The states of what the function `attribute` of `op` returns.

    Which observations its own ops picked may differ from call to call, and from step to
    step of a loop: outside, these have a name for each output.
    """
    graph = function_graph(op, attribute)
    if graph is None:
        raise NotProvenError("has a body that cannot be read")
    known = {tensor_key(t): s for t, s in zip(graph.inputs, states)}
    walk = Walk(known)
    outside = {OWN, None}
    if attribute != "body":
        outside |= {state.rows for state in states}
    after = []
    for i, tensor in enumerate(graph.outputs):
        state = walk.state(tensor)
        unchanged = attribute == "body" and tensor is graph.inputs[i]
        if state.rows not in outside and not unchanged:
            state = state._replace(rows=(op, i))
        after.append(state)
    return after


def _need_rows(state):
    if state.kind != ROWS:
        raise NotProvenError("acts on values whose observations are not followed")
    return state


def _need_each(state):
    if state.kind == SUM:
        raise NotProvenError("is not linear, and acts on a sum over observations")
    return state


def _rank(tensor):
    if tensor.shape.ndims is None:
        raise NotProvenError("has a tensor of unknown rank")
    return tensor.shape.ndims


def _static(op, place, otherwise):
    value = static_value(op.inputs[place])
    if value is None:
        raise NotProvenError(otherwise)
    return value


def _axis(op, place, tensor):
    """Input `place` of `op` as an axis of `tensor`, from 0; None if not known."""
    value = static_value(op.inputs[place])
    rank = tensor.shape.ndims
    return None if value is None or rank is None else int(value.reshape(-1)[0]) % rank
