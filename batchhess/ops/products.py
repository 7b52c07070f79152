"""Products of tensors, and systems of linear equations."""

from batchhess.compat import IS_V1
from batchhess.ops.inputs import from_right
from batchhess.ops.states import (
    BATCHED,
    FREE,
    LOOSE,
    SUM,
    SUMMED,
    NotProvenError,
    alive_of,
    batched,
    broadcast_state,
    need_batched,
    rank_of,
)
from batchhess.ops.table import (
    IN_EACH,
    LETTERS,
    MATRICES,
    MULTIPLIED,
    SOUND,
    UNKNOWN,
    YES,
    op,
)


def _matmul(op, states, walk):
    if op.type == "MatMul":
        flips = [op.get_attr("transpose_a"), op.get_attr("transpose_b")]
    else:
        flips = [op.get_attr("adj_x"), op.get_attr("adj_y")]
    roles = []
    for side, (tensor, state, flip) in enumerate(zip(op.inputs, states, flips)):
        if state.kind == FREE:
            continue
        if (
            state.kind != BATCHED
        ):  # Each product holds one element of it; they are added.
            roles.append("contracted" if state.kind == LOOSE else SUM)
            continue
        from_right = rank_of(tensor) - state.axis
        if from_right > 2:
            roles.append(from_right)
        else:  # The last two axes are (row, contracted) or (contracted, column).
            inner = (from_right == 1) ^ (side == 1) ^ flip
            roles.append("contracted" if inner else ("row", "column")[side])
    alive = [s for s in states if s.kind != FREE]
    if len(roles) == 2:
        same = (
            all(s.kind == BATCHED for s in alive) and alive[0].origin == alive[1].origin
        )
        if not same or roles[0] != roles[1]:
            raise NotProvenError("multiplies observations with other observations")
    role, rank = roles[0], op.outputs[0].shape.ndims
    if role in ("contracted", SUM):
        return SUMMED
    if rank is None:
        raise NotProvenError("has an output of unknown rank")
    place = {"row": 2, "column": 1}.get(role, role)
    return batched(rank - place, alive[0].origin)


def _einsum(op, states, walk):
    terms, output = einsum_labels(op)
    letters, rows = set(), set()
    for labels, state in zip(terms, states):
        if state.kind == FREE:
            continue
        if state.kind != BATCHED:
            if sum(s.kind != FREE for s in states) > 1:
                raise NotProvenError("multiplies observations with other observations")
            return SUMMED
        letters.add(labels[state.axis])
        rows.add(state.origin)
        if labels.count(labels[state.axis]) > 1:
            raise NotProvenError("takes a diagonal over the observation axis")
    if len(letters) > 1 or len(rows) > 1:
        raise NotProvenError("multiplies observations with other observations")
    letter = letters.pop()
    return batched(output.index(letter), rows.pop()) if letter in output else SUMMED


def einsum_labels(op):
    """The labels of each axis of each input of an Einsum, and those of its output.

    Those that an ellipsis stands for are numbers, counted from the right.
    """
    equation = op.get_attr("equation")
    equation = equation.decode() if isinstance(equation, bytes) else equation
    terms, output = equation.replace(" ", "").split("->")
    return [
        _expand(term, rank_of(tensor))
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


def _solve(op, states, walk):
    matrix, right = states[:2]
    if matrix.kind == FREE:  # Each column is solved alone, and is linear in it.
        if right.kind != BATCHED:
            return SUMMED
        if rank_of(op.inputs[1]) - right.axis == 2:
            return SUMMED
        return broadcast_state([(op.inputs[1], right)], op.outputs[0].shape.ndims)
    inputs = alive_of(op, states)
    for tensor, state in inputs:
        if rank_of(tensor) - need_batched(state).axis <= 2:
            raise NotProvenError("solves across the observation axis")
    return broadcast_state(inputs, op.outputs[0].shape.ndims)


def _other_factor(op, place, states, walk):
    """Beside observations that lie before the matrices' own axes."""
    other = 1 - place
    places = rank_of(op.inputs[other]) - states[other].axis
    return None if places <= 2 else from_right(op.inputs[place], places)


def _other_term(op, place, states, walk):
    """A letter is as long in one term as in another, if it is 1 too."""
    terms, _ = einsum_labels(op)
    letter = next(t[s.axis] for t, s in zip(terms, states) if s.kind == BATCHED)
    return terms[place].index(letter) if letter in terms[place] else None


def _other_side(op, place, states, walk):
    """A system for each observation: what 1.15 solves does not broadcast."""
    other = 1 - place
    places = rank_of(op.inputs[other]) - states[other].axis
    if places <= 2:
        return None
    return from_right(op.inputs[place], places, may_be_one=False)


def _sparse(op, states, walk):
    """A sparse matrix that does not depend on x, times a dense one."""
    if any(s.kind != FREE for s in states[:3]):
        raise NotProvenError("has a sparse factor that depends on x")
    columns = 0 if op.get_attr("adjoint_b") else 1
    if states[3].kind != BATCHED or states[3].axis != columns:
        return SUMMED
    return batched(1, states[3].origin)


op("SparseTensorDenseMatMul", _sparse, linear=YES, twice=SOUND)
op("MatMul", _matmul, _other_factor, IN_EACH, MULTIPLIED, twice=SOUND)
op(
    "BatchMatMul BatchMatMulV2 BatchMatMulV3",
    _matmul,
    _other_factor,
    IN_EACH,
    product=MATRICES,
    twice=SOUND,
)
op(
    "Einsum",
    _einsum,
    _other_term,
    IN_EACH,
    product=LETTERS,
    twice=UNKNOWN if IS_V1 else SOUND,  # 1.15 has no gradient of it.
)
op(
    "MatrixSolve MatrixTriangularSolve",
    _solve,
    _other_side,
    1,
    twice=SOUND,
    factorizes=True,
)
