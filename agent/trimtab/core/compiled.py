"""How the hot loops are compiled: one decorator, so that every kernel has the same settings."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# Reference counting is off, so a kernel allocates nothing and gets its scratch space from the caller. With it on, every hand-over
# of a record of arrays counts references to each of them: the twin took ten times as long (measured). The interpreter lock is kept:
# beside a live fleet's threads every release is an invitation to wait for it again, and a kernel takes microseconds.
_SETTINGS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


def compiled(kernel: Kernel) -> Kernel:
    """Compile `kernel` with numba, cached on disk, division as in IEEE 754. It may not allocate.

    A cache entry is renewed when the file of its kernel changes, not when a file that the kernel calls into does.
    Kernels therefore call only kernels of their own file; between files they hand over arrays. A kernel that broke
    this rule would go on running yesterday's code. The plain function stays reachable as `kernel.py_func`.
    """
    return cast(Kernel, numba.njit(**_SETTINGS)(kernel))


def compiled_sums(kernel: Kernel) -> Kernel:
    """The same for kernels of long sums, which may be added in another order: that is what lets them run on vector units."""
    return cast(Kernel, numba.njit(fastmath={"reassoc", "contract"}, **_SETTINGS)(kernel))
