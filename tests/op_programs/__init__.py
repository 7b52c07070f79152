"""A program for each op of the table, by family."""

from op_programs import arrays, elementwise, flow, layers, matrices
from op_programs.base import OPS, matrix

__all__ = ["OPS", "arrays", "elementwise", "flow", "layers", "matrices", "matrix"]
