"""One line of the campaign's table."""

from typing import NamedTuple


class Result(NamedTuple):
    """What a test found. `failed`: requests that were not answered 200, including those that the test makes fail on purpose."""

    name: str
    requests: int
    failed: int
    figure: str
    target: str
    kept: bool
