"""The public op builders."""

from typing import Any, Iterable, List, Optional, Union

from batchhess.building import build
from batchhess.calling import public
from batchhess.compat import tf
from batchhess.gauss_newton import build_gauss_newton
from batchhess.jacobian import build_jacobians
from batchhess.joining import build_joined
from batchhess.passes import Passes
from batchhess.problem import DIAGONAL, PRODUCT, TRACE, WHOLE, Request
from batchhess.results import Derivatives


@public()
def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    coordinates: Union[None, int, Iterable[int]] = None,
    sparsity: Any = None,
    dense: bool = True,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the Hessian of each observation of `xs`: `[N, K, K]`, not `[N, K, N, K]`.

    Takes the place of `tf.hessians(ys, xs)` where `ys` is a sum over observations.
    `result[n, i, j]` is the second derivative of `sum(ys)` with respect to `x[n, i]`
    and `x[n, j]`. N may be unknown until the Session runs. The result can itself be
    differentiated.

    Args:
      ys: a Tensor of floating dtype and shape `[]`, `[N]` or `[N, M]`, or a list of
        such; they are summed, as `tf.hessians` does.
      xs: a Tensor or Variable of shape `[N, K]`, or a list of such. Any `[N, *E]` of
        known rank will do: rank 1 is N observations of one coordinate each.
      name: names the result: `name + ":0"` is the first x's in `Session.run`.
      colocate_gradients_with_ops: as in `tf.gradients`.
      gate_gradients: as in `tf.gradients`.
      aggregation_method: as in `tf.gradients`.
      batch_axis: the axis of each x along which the observations lie.
      method: "columns" takes K reverse passes, and needs `ys` to be a sum of a function
        of each observation alone. "symmetric" does the same with about half the work,
        block by block, where the graph proves it. "observations" takes N K passes, and
        answers the exact diagonal blocks of any `ys`. "differences" takes differences
        of the gradient, for ops that have no second derivative. "auto" is "symmetric"
        where it can be, else "columns".
      check: "auto" refuses what the graph shows TensorFlow to differentiate wrongly.
        Unless it proves observations separable too, three more reverse passes fail the
        run where they are coupled. "always" also holds every run's Hessians, along a
        random direction, against differences of the gradient. "never" does nothing.
      per_output: answer a Hessian for each of the M outputs instead of their sum.
      coordinates: ints; the columns of these coordinates alone, `[N, K, C]`, for C
        passes. They count along an observation, in the order of a reshape to `[N, K]`.
      sparsity: a symmetric `K` by `K` matrix, of numpy or scipy, that is not zero where
        an entry of the Hessian may not be; or a list with one for each of several xs.
        It takes a pass for each colour of a star colouring, 3 where the matrix is
        tridiagonal, whatever K is (Gebremedhin, Manne & Pothen 2005, What color is
        your Jacobian?). Unless `check` is "never", one more pass fails the run where an
        entry outside of it is not zero, and 16 bits are refused, as too coarse for
        that. `detect_sparsity` answers such a matrix.
      dense: whether to answer the zeros outside of `sparsity` too.
      parallel_iterations: passes that may run at a time; `tf.while_loop`'s own default
        if None.
      swap_memory: as in `tf.while_loop`.
      jit_compile: compile the model, its gradient and its Hessian with XLA, as one
        program for each block of observations.
      unconnected_gradients: `tf.UnconnectedGradients.ZERO` answers zeros where `ys`
        does not depend on an x; `NONE` raises.

    Returns:
      A list of Tensors, one for each x, of x's dtype and of shape `[N, *E, *E]`, or
      `[N, M, *E, *E]` with `per_output`. It is zeros where `ys` is linear in x. With
      `dense=False`, `SparseMatrices(indices, values)` for each x, of shapes
      `[entries, 2]` and `[N, entries]`, or `[N, M, entries]` with `per_output`.

    Raises:
      RuntimeError: `ys` or `xs` are eager tensors.
      TypeError: one of them is no Tensor, or not of a real floating dtype.
      ValueError: the graphs, shapes or options do not fit, or `ys` does not depend on
        an x. When the Session runs, an N that differs, and coupled observations, are
        an InvalidArgumentError.
      SecondDerivativeError: TensorFlow has lost the second derivative on the way.
      UndefinedDerivativeError: it has an op without a second derivative.
      NotImplementedError: `jit_compile`, and this TensorFlow has no XLA.
    """
    return build(_request(WHOLE, locals())).answers


@public(like=hessians)
def derivatives(
    ys: Any,
    xs: Any,
    name: str = "derivatives",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    coordinates: Union[None, int, Iterable[int]] = None,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> Derivatives:
    """Builds value, gradient and Hessian of each observation on one gradient graph.

    Args:
      name: names the Hessians, as in `hessians`.

    Returns:
      A namedtuple `Derivatives`. Its `values` are `ys` as given, its `gradients` a list
      of Tensors of the shapes of `xs`, or `[N, M, *E]` with `per_output`, its
      `hessians` what `hessians` answers. What goes block by block computes both of
      these in one: fetch `tf.gradients(ys, xs)` where you want gradients alone.
    """
    built = build(_request(WHOLE, locals(), with_gradients=not per_output))
    return Derivatives(ys, built.gradients, built.answers)


@public(like=hessians)
def hessian_diagonals(
    ys: Any,
    xs: Any,
    name: str = "hessian_diagonals",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    coordinates: Union[None, int, Iterable[int]] = None,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the diagonal of each observation's Hessian: `[N, K]`, and no `[K, K]`.

    `result[n, i]` is the second derivative of `sum(ys)` with respect to `x[n, i]`. It
    takes the passes that `hessians` takes, but memory for the diagonals only;
    "symmetric" saves the products that the rest would need.

    Args:
      check: as in `hessians`; "always" holds one coordinate, drawn anew in each run,
        against differences of the gradient.
      coordinates: ints; the diagonal at these coordinates alone, `[N, C]`.

    Returns:
      A list of Tensors, one for each x, of x's dtype and of shape `[N, *E]`, or
      `[N, M, *E]` with `per_output`.
    """
    return build(_request(DIAGONAL, locals())).answers


@public(like=hessians)
def laplacians(
    ys: Any,
    xs: Any,
    name: str = "laplacians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    coordinates: Union[None, int, Iterable[int]] = None,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the Laplacian of each observation, the trace of its Hessian: `[N]`.

    `result[n]` is the sum over i of the second derivatives of `sum(ys)` with respect to
    `x[n, i]`. "symmetric" carries all tangents forward through the model, once (Li et
    al. 2023, A computational framework for neural network-based variational Monte
    Carlo with Forward Laplacian).

    Args:
      check: as in `hessian_diagonals`.
      coordinates: ints; the sum over these coordinates alone.

    Returns:
      A list of Tensors, one for each x, of x's dtype and of shape `[N]`, or `[N, M]`
      with `per_output`.
    """
    return build(_request(TRACE, locals())).answers


@public(like=hessians)
def hessian_vector_products(
    ys: Any,
    xs: Any,
    vs: Any,
    name: str = "hessian_vector_products",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds products of each observation's Hessian with vectors, whatever K is.

    `result[n]` is `H[n] v[n]`, by one reverse pass through the gradient (Pearlmutter
    1994, Fast exact multiplication by the Hessian); `v[n]' H[n]` where an author's own
    gradient spoils its symmetry. With several xs, H is that of all their coordinates,
    the cross blocks of two xs among them.

    Args:
      xs: as in `hessians`; several of them as in `hessian_blocks`.
      vs: a Tensor or array of x's dtype and shape, or a list with one for each x. With
        one more axis, `[N, V, K]` or `[N, V, *E]` whatever `batch_axis` is, it is V
        vectors for each observation.
      method: "columns" takes a pass for each vector. "forward" takes several vectors,
        of known V, through the gradient at once, where the graph shows the way.
        "symmetric" multiplies whole Hessians by them. "auto" is, of several vectors,
        "symmetric" where V is K or more, and else "forward" where observations multiply
        matrices of their own, as in attention; it is "columns" otherwise.
      check: as in `hessians`. Where observations are coupled, "never" answers the
        product with the Hessian of all observations.
      per_output: as in `hessians`; every output's Hessian is multiplied by the same vs.

    Returns:
      A list of Tensors of the dtypes and shapes of `xs`, or `[N, M, *E]` with
      `per_output`; of V vectors `[N, V, *E]`, or `[N, M, V, *E]`.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessian_blocks`.
      ValueError: as `hessian_blocks`, or `vs` do not fit `xs`. When the Session runs,
        sizes that differ are an InvalidArgumentError.
      SecondDerivativeError: as `hessians`.
      UndefinedDerivativeError: as `hessians`.
    """
    asked = _request(PRODUCT, locals())
    several = isinstance(xs, (list, tuple)) and len(xs) > 1
    return (build_joined if several else build)(asked).answers


@public(like=hessians)
def hessian_blocks(
    ys: Any,
    xs: Any,
    name: str = "hessian_blocks",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    sparsity: Any = None,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[List[tf.Tensor]]:
    """Builds the Hessian of each observation in several xs, cross blocks included.

    `result[i][j][n, a, b]` is the second derivative of `sum(ys)` with respect to
    `xs[i][n, a]` and `xs[j][n, b]`. The model is built again as a function of one
    Tensor that holds the coordinates of all xs, whose Hessian is cut into blocks.

    Args:
      xs: a list of Tensors of one dtype, of shapes `[N, *E]`, none of them computed
        from another.
      name: names the result: `name + ":0"` is the first block's in `Session.run`.
      sparsity: as in `hessians`, of the coordinates of all xs one after the other.

    Returns:
      A list of lists of Tensors, at `[i][j]` of shape `[N, *E_i, *E_j]`, or
      `[N, M, *E_i, *E_j]` with `per_output`.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessians`, or an x is a Variable, or of another dtype than others.
      ValueError: as `hessians`, or an x is computed from another, or the model cannot
        be built again.
      SecondDerivativeError: as `hessians`.
      UndefinedDerivativeError: as `hessians`.
      NotImplementedError: as `hessians`.
    """
    return build_joined(_request(WHOLE, locals())).answers


@public(like=hessians)
def jacobians(
    ys: Any,
    xs: Any,
    name: str = "jacobians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    coordinates: Union[None, int, Iterable[int]] = None,
    sparsity: Any = None,
    dense: bool = True,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the Jacobian of each observation: `[N, M, K]`, not `[N, M, N, K]`.

    `result[n, m, k]` is the derivative of `ys[n, m]` with respect to `x[n, k]`. N and M
    may be unknown until the Session runs. The result can itself be differentiated.

    Args:
      ys: a Tensor of floating dtype and shape `[N, M]`, or any `[N, *F]` of known rank:
        `[N]` is N observations of one output each, `[N, *E]`.
      batch_axis: the axis of each x along which the observations lie; they lie along
        axis 0 of `ys`.
      method: "forward" carries the tangents of all coordinates through the model at
        once, block by block, where the graph proves observations separable. "reverse"
        takes M passes, and needs observation n of `ys` to depend on observation n of x
        alone. "observations" takes N M passes, and answers the exact diagonal blocks of
        any `ys`. "auto" is "forward" where it can be and there are no more coordinates
        than outputs, else "reverse".
      check: "auto" refuses what the graph shows TensorFlow to differentiate wrongly.
        Unless it proves observations separable too, three more reverse passes fail the
        run where they are coupled, or in another order in `ys`. A derivative that no
        test has seen right is held against differences of `ys` in each run. "always"
        holds every run's Jacobians against these, along a random direction. "never"
        does nothing.
      coordinates: ints; the columns of these coordinates alone, `[N, M, C]`. They count
        along an observation, in the order of a reshape to `[N, K]`.
      sparsity: an `M` by `K` matrix, as in `hessians`. Columns that have no row in
        common share a tangent of "forward", and rows that have no column in common a
        pass of "reverse"; "auto" takes the way with fewer of them.
      jit_compile: compile the model and its derivatives with XLA, as one program for
        each block of observations.

    Returns:
      A list of Tensors, one for each x, of x's dtype and of shape `[N, *F, *E]`. With
      `dense=False`, `SparseMatrices(indices, values)` for each x, of shapes
      `[entries, 2]` and `[N, entries]`.

    Raises:
      RuntimeError: `ys` or `xs` are eager tensors.
      TypeError: one of them is no Tensor, or not of a real floating dtype.
      ValueError: the graphs, shapes or options do not fit, there is more than one y,
        its observations are not on axis 0, or it does not depend on an x. When the
        Session runs, an N that differs, and coupled observations, are an
        InvalidArgumentError.
      SecondDerivativeError: TensorFlow has lost the derivative on the way.
      UndefinedDerivativeError: it has an op without a derivative.
      NotImplementedError: `jit_compile`, and this TensorFlow has no XLA.
    """
    return build_jacobians(_request(None, locals()))


@public(like=hessians)
def gauss_newton_products(
    outputs: Any,
    loss: Any,
    xs: Any,
    vs: Any,
    name: str = "gauss_newton_products",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    check: str = "auto",
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the product of each observation's Gauss-Newton matrix with a vector.

    `result[n]` is `J[n]' H[n] J[n] v[n]`: `J[n]`, `[M, K]`, is the Jacobian of
    `outputs[n]` by `x[n]`, and `H[n]`, `[M, M]`, the Hessian of the loss by
    `outputs[n]`. Unlike the Hessian of the loss by x, it is positive semidefinite
    wherever the loss is convex in the outputs (Schraudolph 2002, Fast curvature
    matrix-vector products for second-order gradient descent). It takes five reverse
    passes, whatever K and M are.

    Args:
      outputs: a Tensor of floating dtype and shape `[N, M]`, or any `[N, *F]` of known
        rank, computed from `xs`.
      loss: a Tensor of floating dtype and shape `[]`, `[N]` or `[N, M]`, or a list of
        such, which are summed; computed from `outputs`, and from `xs` through them
        alone.
      xs: as in `hessians`. With several, J holds the columns of all of them.
      vs: as in `hessian_vector_products`.
      check: as in `jacobians`, of the outputs, and as in `hessians`, of the loss. Where
        observations are coupled, "never" answers the product with the matrices of all
        observations.

    Returns:
      A list of Tensors of the dtypes and shapes of `xs`; of V vectors `[N, V, *E]`.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessians`.
      ValueError: as `jacobians` for `outputs` and as `hessians` for `loss`, `vs` do not
        fit `xs`, an x is computed from another, or `loss` depends on an x beside
        `outputs`. When the Session runs, sizes that differ are an
        InvalidArgumentError.
      SecondDerivativeError: TensorFlow has lost a derivative on the way.
      UndefinedDerivativeError: it has an op without one.
    """
    given = dict(locals(), ys=outputs)
    loss = [given.pop(name) for name in ("outputs", "loss")][1]
    return build_gauss_newton(_request(None, given, method="reverse"), loss)


def _request(wanted, given, **others):
    """The `Request` for `wanted` of a public function, `given` its arguments."""
    given = dict(given, **others)
    options = {name: given.pop(name) for name in Passes._fields if name in given}
    return Request(wanted=wanted, passes=Passes(**options), **given)
