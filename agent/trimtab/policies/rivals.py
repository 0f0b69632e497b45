"""Policies that are programs of their own: real proxies before the live servers."""

from dataclasses import dataclass

from trimtab.core.request_log import I64
from trimtab.errors import UsageError
from trimtab.policies.base import RoutingView


@dataclass
class Rival:
    """Stands for a proxy in a list of policies. It decides in its own process, so it cannot be asked for a decision."""

    name: str

    def reset(self, seeds: I64) -> None:
        """Nothing to forget: every episode has a fresh process."""

    def select(self, view: RoutingView) -> I64:
        raise UsageError(f"{self.name} is a real proxy and decides in front of live servers only; use evaluate_dqn.py --backend http")
