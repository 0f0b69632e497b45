"""Schedules over decisions made. None knows the planned length of a run, so a longer run starts as a shorter one did."""


def linear(start: float, end: float, span: int, done: int) -> float:
    """Value on the straight line from `start` (at 0 done) to `end` (at `span` done and ever after); `span` 0 is `end` at once."""
    if done >= span:
        return end
    return start + (end - start) * (done / span)


def updates_scheduled(decisions: int, learn_start: int, decisions_per_update: int) -> int:
    """Gradient steps that `decisions` have earned: none before `learn_start`, then one per `decisions_per_update`."""
    return max(0, decisions - learn_start) // decisions_per_update
