"""The one error that learning itself can raise."""

from trimtab.errors import TrimtabError


class LearningError(TrimtabError):
    """Learning cannot go on: numbers that are not finite, or replay used against its contract."""
