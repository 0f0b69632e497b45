"""What the state document and the metrics say about deciders, model files, shadow, canary and learning. Pure; time is an argument."""

from typing import Any

from trimtab.gateway.candidates import CANARY, RESULTS, STOPPED, Canary, Shadow
from trimtab.gateway.decider_metrics import FileGauges, LearningGauges, OnTrial, ShadowGauges
from trimtab.gateway.deciders import Deciding
from trimtab.gateway.guard import Decider
from trimtab.gateway.learning import CONTROL_GROUP, Learning
from trimtab.gateway.models import ModelFile
from trimtab.gateway.scores import OUTCOMES, Score, Scores


def trial_document(deciding: Deciding, decider: Decider, scores: Scores, now_s: float) -> dict[str, Any]:
    """The keys of `/api/state` that this module answers for. `decider` is the router's; rewards and latencies are the window's."""
    everybody, each = scores.read(now_s)
    return {
        "reward": everybody.reward,
        "deciders": [
            {"name": name, "role": _role(name, decider), **_score(each[name]), **dict(zip(OUTCOMES, totals, strict=True))}
            for name, totals in zip(scores.deciders, scores.totals.outcomes.tolist(), strict=True)
        ],
        "models": [_file(one, now_s) for one in deciding.files.files],
        "shadow": None if deciding.shadow is None else _shadow(deciding.shadow),
        "canary": None if deciding.canary is None else _canary(deciding.canary),
        "learning": None if deciding.learning is None else _learning(deciding.learning),
    }


def model_events(deciding: Deciding, now_s: float) -> list[dict[str, Any]]:
    """What happened to models, in the form of the document's events."""
    return [{"age_s": max(0.0, now_s - one.now_s), "server": None, "what": one.what} for one in deciding.files.journal.notes]


def trial_gauges(deciding: Deciding, now_s: float) -> OnTrial:
    """The same for the metrics."""
    shadow, canary = deciding.shadow, deciding.canary
    candidates = {"shadow": shadow, "canary": canary}
    stopped = canary is not None and canary.state == STOPPED
    return OnTrial(
        files={one.role: FileGauges(one.loads, one.refusals, _age_s(one, now_s)) for one in deciding.files.files},
        doubts={role: dict(one.guard.reasons) for role, one in candidates.items() if one is not None},
        shadow=None if shadow is None else _shadow_gauges(shadow),
        canary_share=None if canary is None else 0.0 if stopped else canary.share,
        canary_stopped=stopped,
        learning=None if deciding.learning is None else _learning_gauges(deciding.learning),
    )


def _role(name: str, decider: Decider) -> str:
    if name == decider.primary:
        return "primary"
    return name if name in {CANARY, CONTROL_GROUP} else "fallback"


def _score(score: Score) -> dict[str, Any]:
    known = score.mean_s is not None
    latency = {"mean": _ms(score.mean_s), "p50": _ms(score.p50_s), "p95": _ms(score.p95_s)} if known else None
    return {"rate_rps": score.rate_rps, "reward": score.reward, "failed_share": score.failed_share, "latency_ms": latency}


def _file(file: ModelFile, now_s: float) -> dict[str, Any]:
    return {
        "role": file.role,
        "file": file.path.name,  # not where it lies: whoever may see the page need not know
        "age_s": _age_s(file, now_s),
        "loads": file.loads,
        "refusals": file.refusals,
        "refused": file.refused,
    }


def _shadow(shadow: Shadow) -> dict[str, Any]:
    recent = shadow.read()
    return {
        "state": shadow.guard.state,
        "agreement": recent.ratio,
        "gain_ms": {"q": _ms(recent.gain_q_s), "delay": _ms(recent.gain_delay_s)},
        "decisions": _results(shadow),
        "reasons": dict(shadow.guard.reasons),
    }


def _canary(canary: Canary) -> dict[str, Any]:
    return {"state": canary.state, "share": canary.share, "reasons": dict(canary.guard.reasons)}


def _learning(learning: Learning) -> dict[str, Any]:
    gap = learning.read()
    return {
        "state": learning.state,
        "share": learning.share,
        "behind": learning.behind,
        "stops_in_a_row": learning.stops_in_a_row,
        "groups": None
        if gap is None
        else {
            "window_s": gap.window_s,
            "latency_ms": {"learned": _ms(gap.learned_s), "control": _ms(gap.control_s), "error": _ms(gap.error_s)},
            "requests": {"learned": gap.learned, "control": gap.control},
        },
    }


def _learning_gauges(learning: Learning) -> LearningGauges:
    gap = learning.read()
    means_s = {} if gap is None else {"learned": gap.learned_s, "control": gap.control_s}
    return LearningGauges(learning.behind, learning.share, learning.state == "stopped", means_s)


def _shadow_gauges(shadow: Shadow) -> ShadowGauges:
    recent = shadow.read()
    gains_s = {"q": recent.gain_q_s, "delay": recent.gain_delay_s}
    return ShadowGauges(_results(shadow), recent.ratio, {by: value for by, value in gains_s.items() if value is not None})


def _results(shadow: Shadow) -> dict[str, int]:
    return dict(zip(RESULTS, shadow.results.tolist(), strict=True))


def _age_s(file: ModelFile, now_s: float) -> float | None:
    return None if file.loaded_s is None else max(0.0, now_s - file.loaded_s)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
