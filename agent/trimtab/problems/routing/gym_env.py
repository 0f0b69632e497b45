"""The routing problem as Gymnasium environments, for learners other than this project's own.

Importing this module registers `trimtab/Routing-v0`, single and vector:

    gymnasium.make("trimtab.problems.routing.gym_env:trimtab/Routing-v0", scenario="affinity-100")
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium.envs.registration import register, registry
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from trimtab.core.moods import LEAST_GAIN, MOST_CONTENTION, SPREAD_BOUNDS
from trimtab.core.observation import CEILING, FEATURES, LOAD_CEILING, LOG_CEILING, observation
from trimtab.core.request_log import F64, I64
from trimtab.core.reward import REWARDS, RewardKind
from trimtab.core.scenario import Scenario
from trimtab.errors import UsageError
from trimtab.policies.base import RoutingView
from trimtab.problems.base import F32, TRAINING_OFFSET, Credits
from trimtab.problems.routing.gym_steps import StepRewards, open_world
from trimtab.problems.routing.world import TWIN_WARMUP, LiveWorld, TwinWorld

ENV_ID: Final = "trimtab/Routing-v0"
_EPISODES_END: Final = 2**31
_LOG_RATIO: Final = 3.0  # bound of logarithms of ratios
_LOG_SERVICE: Final = 4.0  # the same of one service time
_LOG_DELAY: Final = math.log1p(365 * 86_400 / 1e-9)  # a year, where the mean service time is the least that an observation knows
_MOST_SLOTS: Final = 1024  # that a scenario allows
_NO_SAMPLE: Final = 2.0  # `uncertainty` of a pair never seen

_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "slots": (0.0, math.log(_MOST_SLOTS)),
    "free_slots": (0.0, 1.0),
    "own_rank": (-_LOG_RATIO, _LOG_RATIO),
    "affinity": (-_LOG_RATIO, _LOG_RATIO),
    "samples": (0.0, 1.0),
    "ratio_fast": (-_LOG_RATIO, _LOG_RATIO),
    "ratio_slow": (-_LOG_RATIO, _LOG_RATIO),
    "error_rate": (0.0, 1.0),
    "load": (0.0, LOAD_CEILING),
    "share_of_class": (0.0, 1.0),
    "expected_cost": (0.0, _LOG_DELAY),
    "log_delay": (0.0, _LOG_DELAY),
    "log_own": (-LOG_CEILING, LOG_CEILING),
    "log_wait": (0.0, _LOG_DELAY),
    "slow_share": (0.0, 1.0),
    "last_ratio": (-_LOG_SERVICE, _LOG_SERVICE),
    "recent_ratio": (-_LOG_SERVICE, _LOG_SERVICE),
    "long_ratio": (-_LOG_SERVICE, _LOG_SERVICE),
    "overdue": (-_LOG_RATIO, _LOG_RATIO),
    "mean_overdue": (-_LOG_RATIO, _LOG_RATIO),
    "progress": (0.0, CEILING),
    "stale": (0.0, LOG_CEILING),
    "contention": (0.0, MOST_CONTENTION),
    "spread": SPREAD_BOUNDS,
    "uncertainty": (math.sqrt(LEAST_GAIN), _NO_SAMPLE),
    "failing": (0.0, 1.0),
}


class _Routing:
    """What the single and the vector environment share: a world, its spaces, B episodes in step."""

    def __init__(self, scenario: str, backend: str, servers: Sequence[str], decisions: int, reward: RewardKind, batch: int) -> None:
        if reward not in REWARDS:
            raise UsageError(f"unknown reward {reward!r}; allowed: {', '.join(REWARDS)}")
        if decisions < 1 or batch < 1:
            raise UsageError(f"{decisions} decisions in {batch} environments; allowed: 1 or more of each")
        if backend == "http" and batch > 1:
            raise UsageError(f"{batch} environments on one live fleet; allowed: 1; use backend 'twin' for more")
        self.batch = batch
        self.world: TwinWorld | LiveWorld
        self.world, sizes = open_world(scenario, backend, servers, reward)
        self.rewards = StepRewards(self.world.training_env(decisions, batch))
        self.observation_space = observation_space(sizes, decisions)
        self.action_space: gymnasium.Space[np.int64] = gymnasium.spaces.Discrete(len(sizes.servers))
        self._closed = False

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any]) -> RoutingView:
        """Episodes drawn with `rng`, or those that follow `options["episode"]`."""
        unknown = sorted(set(options) - {"episode"})
        if unknown:
            raise UsageError(f"unknown reset option {unknown[0]!r}; allowed: 'episode', the number of the episode to play")
        if "episode" in options:
            return self.rewards.begin(range(options["episode"], options["episode"] + self.batch))
        return self.rewards.begin(rng.integers(TRAINING_OFFSET, _EPISODES_END, self.batch).tolist())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.world.close()


class RoutingSingleEnv(gymnasium.Env[F32, np.int64]):
    """
    ## Description

    Requests arrive at a load balancer, which sends each at once to one of S servers. Servers differ in slots and in speed for each
    class of request; a request that finds no free slot waits first in, first out. The aim is a short response time. The balancer sees
    only what it can know: what it sent, what came back, and when.

    ## Action Space

    `Discrete(S)`: the server, in the scenario's order. Servers that have left the fleet are False in `info["action_mask"]`; sending
    there anyway is a failed request.

    ## Observation Space

    `Box(S * F, float32)`: the F numbers of this table for each server, server by server. Number f of server s has index `F s + f`. One
    unit of time is the fleet's mean service time as seen so far. Times are cut at 20 units, logarithms of times are not. From
    `expected_cost` on, slow spells, contention and failures are told apart from a server's own speed: it is well if it is in no slow spell.

    | f  | Name           | Meaning                                                            | Unit   | Min | Max                      |
    |----|----------------|--------------------------------------------------------------------|--------|-----|--------------------------|
    | 0  | in_flight      | log(1 + requests sent and not answered)                            | -      | 0   | log(1 + requests)        |
    | 1  | slots          | log(declared slots)                                                | -      | 0   | log(1024)                |
    | 2  | free_slots     | share of the slots that is free, from requests in flight alone     | -      | 0   | 1                        |
    | 3  | work_ahead     | expected work in flight / slots                                    | unit   | 0   | 20                       |
    | 4  | wait           | expected wait for a slot                                           | unit   | 0   | 20                       |
    | 5  | own_service    | expected service time of this request's class                      | unit   | 0   | 20                       |
    | 6  | delay          | wait + own_service                                                 | unit   | 0   | 20                       |
    | 7  | delay_excess   | delay beyond that of the best server                               | unit   | 0   | 20                       |
    | 8  | own_rank       | log(own_service / the best server's)                               | -      | -3  | 3                        |
    | 9  | affinity       | log(own_service / the server's mean over classes)                  | -      | -3  | 3                        |
    | 10 | samples        | min(answers of this class, 20) / 20                                | -      | 0   | 1                        |
    | 11 | ratio_fast     | log(actual / expected service), about the last 3 answers           | -      | -3  | 3                        |
    | 12 | ratio_slow     | the same, about the last 20                                        | -      | -3  | 3                        |
    | 13 | age            | age of the oldest request in flight / what it was expected to take | -      | 0   | 20                       |
    | 14 | error_rate     | share of recent answers that failed                                | -      | 0   | 1                        |
    | 15 | silence        | time since the last answer while something is in flight            | unit   | 0   | 20                       |
    | 16 | load           | arrival rate x unit / all slots                                    | -      | 0   | 4                        |
    | 17 | share_of_class | how common this request's class is                                 | -      | 0   | 1                        |
    | 18 | expected_cost  | log(1 + expected delay, slow spells and failures considered)       | -      | 0   | log(1 + year / ns)       |
    | 19 | log_delay      | log(1 + delay)                                                     | -      | 0   | log(1 + year / ns)       |
    | 20 | log_own        | log(expected service if the server is well)                        | -      | -8  | 8                        |
    | 21 | log_wait       | log(1 + expected wait if it is well, less what is already done)    | -      | 0   | log(1 + year / ns)       |
    | 22 | slow_share     | probability that the server is in a slow spell                     | -      | 0   | 1                        |
    | 23 | last_ratio     | log(actual / expected service) of the last answer                  | -      | -4  | 4                        |
    | 24 | recent_ratio   | the same, about the last 3                                         | -      | -4  | 4                        |
    | 25 | long_ratio     | the same, about the last 12                                        | -      | -4  | 4                        |
    | 26 | overdue        | log(time in service / expected) of the request most overdue        | -      | -3  | 3                        |
    | 27 | mean_overdue   | the same, mean over the slots, 0 for a free one                    | -      | -3  | 3                        |
    | 28 | progress       | time that requests in service have had / slots                     | unit   | 0   | 20                       |
    | 29 | stale          | log(1 + time since the last answer)                                | -      | 0   | 8                        |
    | 30 | contention     | slope of service time per other busy slot                          | -      | 0   | 1.5                      |
    | 31 | spread         | variance of log service time of this class                         | -      | 0.04 | 1.6                     |
    | 32 | uncertainty    | 1 / sqrt(answers of this class), the last 50 at most; 2 for none   | -      | 0.14 | 2                       |
    | 33 | failing        | share of recent answers that failed, forgotten with time           | -      | 0   | 1                        |

    ## Rewards

    Minus the response time of the routed request / the scenario's mean service time; a failure costs 40, or its response time where that
    is more. Worked example: mean service time 50 ms, a request that waits 30 ms and is served in 70 ms: -(30 + 70) / 50 = -2.

    Twin: first in, first out fixes the response time at dispatch, so the step itself is charged. A crash or freeze that comes later,
    and any failure, is charged at the step in which the request completes, as the difference. Live: a step gets the rewards of all
    requests that completed since the last step. In both, the last step waits for what is in flight and gets the rest, so that the sum
    over an episode is minus the sum of all its response times. With `reward="integral"` (twin alone) a step gets minus the time-integral
    of the number of requests in the system up to the next arrival / the mean service time.

    ## Starting State

    64 requests have been routed by `least-outstanding` into an empty fleet; they are not rewarded. Arrivals, classes and work follow
    from the number of the episode, which `reset(seed=...)` seeds and consecutive resets draw anew. It is never one that evaluation
    uses; `options={"episode": N}` plays a given one.

    ## Episode End

    Truncation after `decisions` steps. There is no termination: traffic does not end because we stop looking.

    ## Information

    `now_s` (time since the first arrival, seconds), `request_class` (index), `action_mask` (S flags), and in steps `credits`: the
    rewards that became known, with the decisions that earned them, for learners that can wait.

    ## Arguments

    | Name        | Default           | Meaning                                                                            |
    |-------------|-------------------|------------------------------------------------------------------------------------|
    | `scenario`  | `compose-default` | scenario id, path of a TOML file, or `family:NAME` (a new fleet of 4 every episode) |
    | `backend`   | `twin`            | `twin` (simulated) or `http` (live servers, in real time)                          |
    | `servers`   | `()`              | URLs of live servers; none: the Compose fleet where it answers, else local processes |
    | `decisions` | 500               | steps in an episode                                                                |
    | `reward`    | `response`        | `response` or `integral`                                                           |

    ## Source

    Observation and reward are this project's own; `sed-online`, the policy to beat, is shortest expected delay (Weber 1978) on online
    estimates of service times.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        scenario: str = "compose-default",
        backend: str = "twin",
        servers: Sequence[str] = (),
        decisions: int = 500,
        reward: RewardKind = "response",
        render_mode: str | None = None,
    ) -> None:
        self._routing = _Routing(scenario, backend, servers, decisions, reward, 1)
        self.observation_space = self._routing.observation_space
        self.action_space = self._routing.action_space
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """A new warm episode. The same seed gives the same episodes from here on."""
        super().reset(seed=seed)
        view = self._routing.begin(self.np_random, options or {})
        return _flat(view)[0], _first(_infos(view))

    def step(self, action: np.int64) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        """Send the current request to server `action`; the next request's observation, reward, False, whether the time is up, info."""
        obs, rewards, ended, infos = _step(self._routing.rewards, np.array([action], dtype=np.int64))
        return obs[0], float(rewards[0]), False, ended, _first(infos)

    def close(self) -> None:
        """Let go of connections and of servers that were started."""
        self._routing.close()


class RoutingVectorEnv(VectorEnv[F32, I64, Any]):
    """B routing episodes in step, a fleet each; see `RoutingSingleEnv` for everything else.

    All episodes end together. Autoreset is Gymnasium's next-step mode: the step after the end ignores its actions and returns the
    first observations of new episodes with reward 0.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str = "compose-default",
        backend: str = "twin",
        servers: Sequence[str] = (),
        decisions: int = 500,
        reward: RewardKind = "response",
        render_mode: str | None = None,
    ) -> None:
        self._routing = _Routing(scenario, backend, servers, decisions, reward, num_envs)
        self.num_envs = num_envs
        self.single_observation_space = self._routing.observation_space
        self.single_action_space = self._routing.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """New warm episodes: observations [B, S * F] and infos."""
        super().reset(seed=seed)
        self._ended = False
        view = self._routing.begin(self.np_random, options or {})
        return _flat(view), _infos(view)

    def step(self, actions: I64) -> tuple[F32, F64, Any, Any, dict[str, Any]]:
        """Send the current request of each fleet to its server, actions [B]; the five arrays and infos that Gymnasium returns."""
        never = np.zeros(self.num_envs, dtype=np.bool_)
        if self._ended:
            obs, infos = self.reset()
            return obs, np.zeros(self.num_envs), never, never.copy(), infos
        obs, rewards, self._ended, infos = _step(self._routing.rewards, np.asarray(actions, dtype=np.int64))
        return obs, rewards, never, np.full(self.num_envs, self._ended), infos

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of connections and of servers that were started."""
        if hasattr(self, "_routing"):  # Gymnasium also closes what its constructor refused to build
            self._routing.close()


def observation_space(scenario: Scenario, decisions: int) -> gymnasium.spaces.Box:
    """Bounds of the flattened observation of the scenario's servers.  # [S * F]"""
    most = math.log1p(TWIN_WARMUP + decisions + 1)  # every request of an episode in flight at one server
    bounds = {"in_flight": (0.0, most), **_BOUNDS}
    row = np.array([bounds.get(name, (0.0, CEILING)) for name in FEATURES])  # [F, 2]
    low, high = np.tile(row.T, len(scenario.servers)).astype(np.float32)  # [2, S * F]
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


def register_envs() -> None:
    """Make `trimtab/Routing-v0` known to Gymnasium; twice does no harm."""
    if ENV_ID not in registry:
        register(ENV_ID, entry_point=f"{__name__}:RoutingSingleEnv", vector_entry_point=f"{__name__}:RoutingVectorEnv")


def _step(steps: StepRewards, actions: I64) -> tuple[F32, F64, bool, dict[str, Any]]:
    view, rewards, credits, ended = steps.step(actions)
    obs, infos = _flat(view), _infos(view)  # now: the view is live, and settling moves the ledger on
    infos["credits"] = credits
    if ended:
        rest, late = steps.settle()
        rewards = rewards + rest
        infos["credits"] = Credits(*(np.concatenate(pair) for pair in zip(credits, late, strict=True)))
    return obs, rewards, ended, infos


def _flat(view: RoutingView) -> F32:
    """Observations with servers side by side.  # [B, S * F]"""
    rows = observation(view)
    return rows.reshape(len(rows), -1)


def _infos(view: RoutingView) -> dict[str, Any]:
    """Copies, since the view's arrays are live.  # [B], [B], [B, S]"""
    mask = view.available.copy()
    return {"now_s": view.now_s.copy(), "request_class": view.request_class.copy(), "action_mask": mask}


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    """Infos of a single environment from those of a batch of one."""
    kept = {"credits": infos["credits"]} if "credits" in infos else {}
    one = {"now_s": float(infos["now_s"][0]), "request_class": int(infos["request_class"][0]), "action_mask": infos["action_mask"][0]}
    return one | kept


register_envs()  # here, so that Gymnasium's "module:id" form finds it: Gymnasium 1.x loads no plugins by itself
