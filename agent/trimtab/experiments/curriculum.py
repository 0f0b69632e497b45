"""How many episodes, how long, in what batches. Nothing here depends on the total asked for."""

from dataclasses import dataclass
from typing import Final

CHECKPOINT_EVERY: Final = 100  # episodes
BATCH: Final = 100  # episodes side by side in the twin; divides CHECKPOINT_EVERY, so that a batch ends at every checkpoint


@dataclass(frozen=True, slots=True)
class Phase:
    """`episodes` episodes of `decisions` decisions each."""

    episodes: int
    decisions: int


CURRICULUM: Final = (Phase(1000, 150), Phase(2000, 250), Phase(3000, 500))
EPISODES: Final = sum(phase.episodes for phase in CURRICULUM)


def phase_of(episode: int) -> tuple[int, Phase]:
    """Number (from 1) and phase of an episode (from 0); the last phase goes on for ever."""
    before = 0
    for number, phase in enumerate(CURRICULUM, start=1):
        before += phase.episodes
        if episode < before:
            return number, phase
    return len(CURRICULUM), CURRICULUM[-1]


def batch_at(episode: int, total: int, batch: int = BATCH) -> int:
    """Size of the batch that starts at `episode`: up to the next multiple of `batch`, not beyond `total`."""
    return min(batch - episode % batch, total - episode)
