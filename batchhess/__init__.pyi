"""What a type checker reads: the names that come in when they are first asked for."""

from batchhess.detection import detect_sparsity as detect_sparsity
from batchhess.errors import SecondDerivativeError as SecondDerivativeError
from batchhess.errors import UndefinedDerivativeError as UndefinedDerivativeError
from batchhess.explanation import Explanation as Explanation
from batchhess.explanation import explain as explain
from batchhess.exporting import export as export
from batchhess.models import Model as Model
from batchhess.models import load as load
from batchhess.operators import derivatives as derivatives
from batchhess.operators import gauss_newton_products as gauss_newton_products
from batchhess.operators import hessian_blocks as hessian_blocks
from batchhess.operators import hessian_diagonals as hessian_diagonals
from batchhess.operators import hessian_vector_products as hessian_vector_products
from batchhess.operators import hessians as hessians
from batchhess.operators import jacobians as jacobians
from batchhess.operators import laplacians as laplacians
from batchhess.results import Derivatives as Derivatives
from batchhess.sparsity import SparseMatrices as SparseMatrices
from batchhess.streaming import evaluate as evaluate
from batchhess.verification import HessianError as HessianError
from batchhess.verification import compute_hessian_error as compute_hessian_error

__all__: list[str]
__version__: str
