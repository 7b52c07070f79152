"""Evaluations of more data than memory holds, batch by batch, into arrays or files."""

from batchhess.streaming.companies import Company, companies
from batchhess.streaming.comparing import is_close
from batchhess.streaming.evaluating import evaluate
from batchhess.streaming.feeding import nonfinite_rows
from batchhess.streaming.means import refuse_means

__all__ = [
    "Company",
    "companies",
    "evaluate",
    "is_close",
    "nonfinite_rows",
    "refuse_means",
]
