"""Copies of single episodes of a batch: where a simulation goes on from one moment in several ways."""

from collections.abc import Set
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

Record = TypeVar("Record", bound=tuple[Any, ...])


def rows_of(record: Record, rows: npt.NDArray[np.int64], per_request: Set[str] = frozenset(), requests: int = 0) -> Record:
    """The episodes `rows` [R] of a named tuple of arrays [B, ...], which may repeat; nested ones go along. Nothing is shared.

    Of the arrays named in `per_request`, [B, N], only the first `requests` columns: what has not been sent by then is not copied.
    Memory keeps its order, since kernels are compiled for it.
    """
    fields = cast(Any, record)._asdict().items()
    return type(record)(*(_rows(value, rows, per_request, requests, name) for name, value in fields))


def _rows(value: Any, rows: npt.NDArray[np.int64], per_request: Set[str], requests: int, name: str) -> Any:
    if isinstance(value, tuple):
        return rows_of(value, rows, per_request, requests)
    if len(value) == 0:
        return value.copy()  # kept by nobody: error draws of fleets without faults
    lies_along_b = value.ndim > 1 and value.flags.f_contiguous and not value.flags.c_contiguous
    kept = value[:, :requests] if name in per_request else value
    taken = np.take(kept, rows, axis=0)
    return np.asfortranarray(taken) if lies_along_b else np.ascontiguousarray(taken)
