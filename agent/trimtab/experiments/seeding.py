"""Which episodes and which chance: every stream apart from every other, all from one seed."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from trimtab.problems.base import TRAINING_OFFSET as TRAINING_OFFSET

I64 = npt.NDArray[np.int64]

_POLICY_KEY: Final = (2,)


def policy_seeds(seed: int, episodes: Sequence[int]) -> I64:
    """A seed for the policy's own chance in each episode, apart from the traffic's.  # [B]"""
    words = [np.random.SeedSequence([seed, one], spawn_key=_POLICY_KEY).generate_state(1, np.uint64)[0] for one in episodes]
    return (np.array(words, dtype=np.uint64) >> np.uint64(1)).astype(np.int64)
