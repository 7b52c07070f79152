"""The declaration of an op, and the table that holds them all."""

import collections

# `linear`: how the outputs of an op vary with the inputs that depend on x.
# YES: linearly, in all of them together. IN_EACH: in one of them, the others held.
# AFFINE: linearly but for a constant, so that it may not be applied to a tangent.
NO, YES, IN_EACH, AFFINE = "no", "yes", "in each", "affine"

# `tangents`: how the tangents of an op that is linear are found. APPLIED: by the op.
# PASSED: they are those of its input. ADDED: they are added up; SUBTRACTED: those of
# the second input with a minus. SCALED: element by element. RESHAPED: elements keep
# their order; TRANSPOSED: they do not. JOINED: zeros stand for inputs that do not
# depend on x. TOTALLED, MULTIPLIED: as APPLIED, or by one product with a matrix, of
# ones or the op's own.
APPLIED, PASSED, ADDED, SUBTRACTED = "applied", "passed", "added", "subtracted"
SCALED, RESHAPED, TRANSPOSED, JOINED = "scaled", "reshaped", "transposed", "joined"
TOTALLED, MULTIPLIED = "totalled", "multiplied"

# `product`: how an op multiplies two tensors that both depend on x. MATRICES: one
# matrix after another. LETTERS: as an equation of einsum says.
MATRICES, LETTERS = "matrices", "letters"

# `frame`: what an op is to a loop or a branch of control flow v1.
ENTER, EXIT, NEXT = "enter", "exit", "next iteration"
MERGE, SWITCH, CONDITION = "merge", "switch", "condition"

# `twice`: whether TensorFlow's second derivative is right. SOUND: tests/test_ops.py has
# seen it right, on generic points and on special ones. UNKNOWN: each run verifies it.
SOUND, UNKNOWN = "sound", "unknown"

# What TensorFlow differentiates wrongly. holds(op, depends): whether it does so here;
# depends(tensors): whether they depend on x. does: what is wrong. cure: what to write.
# spoils_values: bool, whether it spoils the values of a gradient on a moved x too.
# wrong_once: bool, whether the gradient itself is wrong for certain.
Fault = collections.namedtuple(
    "Fault", "holds does cure spoils_values wrong_once", defaults=(False, False)
)

# The same op in a form that is differentiated rightly. applies(op, depends): whether it
# is needed. build(op): a list of Tensors in the places of the outputs.
Rewrite = collections.namedtuple("Rewrite", "applies build")

# Right but where an element is zero. cure: what to write instead. place: of which
# input. zeros(op): of which Tensor, if it is no input. why: what such an op has, for
# messages. holds(op): whether it is needed. wrong_once: bool, whether the gradient
# itself is wrong. convention: bool, whether that is a convention of TensorFlow's, which
# stands where no run can see the zeros. weighed: bool, whether there is one of them for
# each element of the first output, which does not count where f does not vary with it.
Guard = collections.namedtuple(
    "Guard",
    "cure place zeros why holds wrong_once convention weighed",
    defaults=(0, None, "a zero among its inputs", lambda op: True, False, False, False),
)

Declared = collections.namedtuple(
    "Declared",
    "type follow inputs linear tangents product elementwise twice faults rewrites "
    "guard parts elements shape_input size_only step bits stops calls frame repeatable "
    "reads factorizes bend written python overwrites",
)

_TABLE = {}

_NOTHING = Declared(
    type=None,
    follow=None,
    inputs=None,
    linear=NO,
    tangents=APPLIED,
    product=None,
    elementwise=False,
    twice=UNKNOWN,
    faults=(),
    rewrites=(),
    guard=None,
    parts=None,
    elements=None,
    shape_input=None,
    size_only=False,
    step=False,
    bits=False,
    stops=False,
    calls=(),
    frame=None,
    repeatable=False,
    reads=False,
    factorizes=False,
    bend=None,
    written=lambda op: op.outputs,
    python=False,
    overwrites=False,
)


def op(types, follow=None, inputs=None, linear=NO, tangents=APPLIED, **fields):
    """Declares ops. Each type is declared once.

    Args:
      types: str, the types of the ops, separated by blanks.
      follow: (op, states of its inputs, walk) -> `State`, or a list of one for each
        output: where the observations are afterwards. Raises `NotProvenError` where the
        graph does not tell. None: nothing is proven.
      inputs: (op, place, states, walk) -> the axis of that input, which does not depend
        on x, along which it has the observations; None if it is the same for all; or
        `SHAPE`. Raises `NotProvenError`. None: the op is not applied to a block.
      linear: `NO`, `YES`, `IN_EACH`, `AFFINE`; the int of the one input in which it is
        linear; or a function from the op to one of these.
      tangents: how they are found where it is linear.
      product: `MATRICES` or `LETTERS`; None if it has no way of its own.
      elementwise: bool, whether the output at one place depends on the inputs at that
        place, after broadcasting.
      twice: `SOUND` or `UNKNOWN`.
      faults: list of `Fault`.
      rewrites: list of `Rewrite`, of which the first that applies is taken.
      guard: `Guard`, or None.
      parts: (op, `Region`) -> a function that builds it, as that of a `Rewrite`, in
        elementary ops whose tangents are few and do not cancel; or None.
      elements: an output -> its elements, where it may hold sizes: see ops/sizes.py.
      shape_input: the place of the input that tells the shape of the output.
      size_only: bool, whether it only reads the sizes of its inputs.
      step: bool, whether the output does not change when an input changes a little.
      bits: bool, whether it answers the bits of its input as another dtype, so that a
        small change passes integers.
      stops: bool, whether its author says that no derivative passes.
      calls: the attributes that name the functions that it calls.
      frame: its part in control flow v1: `ENTER`, `EXIT`, `NEXT`, `MERGE`, `SWITCH` or
        `CONDITION`.
      repeatable: bool, whether it has a state, and a second one in the same run does no
        harm.
      reads: bool, whether it answers the value of the variable that it is given.
      factorizes: bool, whether it costs more than its derivative along one direction,
        which uses again what it has found.
      bend: (op, adjoints, tangents, times) -> how the adjoint of its one input varies
        along tangents of that, with an axis of K after that of the observations; None
        for zeros. adjoints: list of those of the outputs, or None, with an axis of 1
        there. tangents, times(left, right, flip): as in methods/bilinear.py. None:
        tf.gradients tells, K times.
      written: op -> those of its outputs that it writes; the others hold anything.
      python: bool, whether it is Python that TensorFlow cannot differentiate: a term of
        f by it is constant, as tf.hessians has it too.
      overwrites: bool, whether it gives the variable that is its first input values
        that do not depend on those before.
    """
    for name in types.split():
        assert name not in _TABLE, name
        _TABLE[name] = _NOTHING._replace(
            type=name,
            follow=follow,
            inputs=inputs,
            linear=linear,
            tangents=tangents,
            **fields,
        )


def declared(op):
    """The declaration of the type of `op`; one of nothing known if there is none."""
    return _TABLE.get(op.type, _NOTHING)


def correction_of(op, depends):
    """How to build `op` in a form that is differentiated rightly twice.

    Returns:
      the `build` of a `Rewrite`; None if `op` is right as it is.
    """
    forms = (f for f in declared(op).rewrites if f.applies(op, depends))
    return next((form.build for form in forms), None)


def zeros_of(op):
    """The Tensor of whose zeros the guard of `op` warns."""
    guard = declared(op).guard
    return guard.zeros(op) if guard.zeros else op.inputs[guard.place]


def _is_of_complex(op, depends):
    return any(t.dtype.base_dtype.is_complex and depends([t]) for t in op.inputs)


# The fault of ops whose derivatives are right of real numbers only, as far as known.
OF_COMPLEX = Fault(
    _is_of_complex,
    "loses a conjugate of complex numbers, or no test has seen that it keeps it",
    "Write it with products, quotients and sums, or by tf.math.real and tf.math.imag.",
    spoils_values=True,
)


def no_gradient_by(*places, of="its input {}", when=lambda op: True):
    """The fault of an op of which TensorFlow has no gradient by the inputs at `places`.

    Args:
      of: str, what these inputs are.
      when: op -> whether it is so.
    """

    def holds(op, depends):
        given = [op.inputs[place] for place in places if place < len(op.inputs)]
        return depends(given) and when(op)

    return Fault(
        holds,
        "takes the gradient by {} for None".format(of.format(places[0])),
        "Pass that through tf.stop_gradient, to declare it constant, or write this "
        "part of the model with other ops.",
        spoils_values=True,
        wrong_once=True,
    )


def linearity(op):
    """How the outputs of `op` vary with its inputs: see `linear` above."""
    linear = declared(op).linear
    return linear(op) if callable(linear) else linear


def is_linear(op, places):
    """Whether the outputs of `op` are linear in its inputs at `places` together."""
    linear = linearity(op)
    if linear == IN_EACH:
        return len(places) == 1
    return linear == YES or places == [linear]


def is_affine(op, places):
    """The same where constants may be added: no derivative reads the values there."""
    if declared(op).tangents == PASSED or linearity(op) == AFFINE:
        return True
    return is_linear(op, places)


def is_of_flow(op):
    """Whether `op` calls functions, or is of a loop or branch of control flow v1."""
    return declared(op).frame is not None or bool(declared(op).calls)


def all_declared():
    """Every declaration, by type."""
    return dict(_TABLE)
