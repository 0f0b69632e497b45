"""How the hot loops are compiled: one decorator, so that every kernel has the same settings."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile `kernel` with numba: cached on disk, without the global interpreter lock, division as in IEEE 754.

    Reference counting is off (`_nrt`), so a kernel allocates nothing and gets its scratch space from the caller. With it on,
    every hand-over of a record of arrays counts references to each of them: the twin took ten times as long (measured).

    A cache entry is renewed when the file of its kernel changes, not when a file that the kernel calls into does.
    Kernels therefore call only kernels of their own file; between files they hand over arrays. A kernel that broke
    this rule would go on running yesterday's code. The plain function stays reachable as `kernel.py_func`.
    """
    settings: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
    return cast(Kernel, numba.njit(**settings)(kernel))
