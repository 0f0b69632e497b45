"""The dashboard Training: how learning goes, on whichever backend it runs, and the evaluation afterwards."""

from parts import FIRING_BY_NAME, SLO, Row, annotation, bars, chooser, curves, number, page, rows_of, words
from queries import BOTH, mean_by, quantile_by, rate_by, share_by

RUN = 'job="training"'
LEARNER = f'{RUN},policy="dqn",{BOTH}'  # without the classical policies that are run for comparison
TEST = 'job="evaluation"'
PHASES = {"1": ("first", "blue"), "2": ("second", "blue"), "3": ("third", "blue"), "4": ("fine-tuning", "green")}
SINCE = "time() - trimtab_training_last_batch_timestamp_seconds"
# A series whose label is the phase, for as long as the phase is new: at the start of a run too, but not at its end.
NEW_PHASE = 'count_values("phase", trimtab_training_phase) unless count_values("phase", trimtab_training_phase offset 6s)'
EVALUATED = "{{policy}}, {{scenario}}"

PROGRESS = Row("Progress", [
    words(
        "What is trained", "Problem, scenario, backend and seed of the run that is on. Empty between runs.",
        ("trimtab_training_info", "{{problem}} {{scenario}} {{backend}} seed {{seed}}"), width=6,
    ),
    number(
        "Episodes", "Trained so far, and planned for the run.", "short",
        ("trimtab_training_episode", "done"), ("trimtab_training_episodes_planned", "planned"), width=5, name=True,
    ),
    number(
        "Done", "Part of the planned episodes that is done.", "percentunit",
        ("trimtab_training_episode / trimtab_training_episodes_planned", "done"), width=3,
    ),
    number(
        "Phase", "Of the curriculum, whose episodes grow longer; then live fine-tuning. Marks on the curves show changes.", "short",
        ("trimtab_training_phase", "phase"), texts=PHASES, width=4,
    ),
    number(
        "Since the last batch", "Seconds without a finished batch of episodes. Beyond 60 the alert TrainingStalled fires.", "s",
        (SINCE, "since"), width=3, limits=[(None, "green"), (30, "orange"), (60, "red")],
    ),
    words(
        "Policy now", "Who decides at this moment: the learner, or a classical policy that is run for comparison.",
        (f"topk(1, {rate_by('policy', 'trimtab_agent_decisions_total', RUN)})", "{{policy}}"), width=3,
    ),
])  # fmt: skip

REWARD = Row("Reward", [
    curves(
        "Reward for a decision", "Mean over the last batch. It should rise and flatten; steps are to be expected where the phase changes.",
        "short", ("trimtab_training_average_reward", "reward"), width=6,
    ),
    curves(
        "Reward for an episode", "Sum over an episode, the curve to compare runs of one scenario by.", "short",
        ("trimtab_training_total_reward", "reward"), width=6,
    ),
    curves(
        "Optimal decisions", "Decisions for the server with the least expected completion time. It rises as epsilon falls.", "percentunit",
        ("trimtab_training_optimal_decision_ratio", "optimal"), width=6, top=1,
    ),
    curves(
        "Balance", "Gini coefficient of the load, and the spread of utilisation; 0 is perfectly even. Fast need not mean even.", "short",
        ("trimtab_training_gini_coefficient", "Gini"), ("trimtab_training_utilization_std", "spread of utilisation"), width=6,
    ),
])  # fmt: skip

LATENCY = Row("Latency", [
    curves(
        "Mean latency against classical policies", "The learner should end below the dashed references, run on the same kind of episode.",
        "s", ("trimtab_training_mean_latency_seconds", "learner"),
        ("trimtab_training_reference_latency_seconds", "reference {{policy}}"),
    ),
    curves(
        "Tail latency", "p99 of the learner and of the references as it is measured, and the SLO. A mean that falls while p99 rises "
        "hides queues.", "s",
        (quantile_by("policy", 0.95, "trimtab_agent_latency_seconds", f'{RUN},policy="dqn"'), "p95 {{policy}}"),
        (quantile_by("policy", 0.99, "trimtab_agent_latency_seconds", RUN), "p99 {{policy}}"), slo=True,
    ),
    curves(
        "Error share", "Part of the last batch's requests that failed. Not 0 without a fault means an overloaded queue.", "percentunit",
        ("trimtab_training_error_ratio", "errors"), top=0.1, limits=[(None, "green"), (0.05, "red")],
    ),
])  # fmt: skip

LEARNING = Row("Learning", [
    curves(
        "Epsilon", "Part of the decisions that are random. While it is high, latency is not the learner's.", "percentunit",
        ("trimtab_training_epsilon", "epsilon"), top=1,
    ),
    curves(
        "Loss", "Mean over the last batch. It may rise with Q at first; growth without end, or a gap, is divergence.", "short",
        ("trimtab_training_loss", "loss"),
    ),
    curves(
        "Q mean", "Mean predicted value. It should settle near the discounted reward; running away is divergence.", "short",
        ("trimtab_training_q_mean", "Q"),
    ),
    curves(
        "Replay memory", "How full it is. Learning begins once there is enough; a full one replaces what is oldest.", "percentunit",
        ("trimtab_training_replay_fill_ratio", "filled"), top=1,
    ),
    curves(
        "Gradient steps", "A second. 0 means that the learner waits for experience, which on live servers is most of the time.", "ops",
        (rate_by("job", "trimtab_training_gradient_steps_total", RUN), "steps"),
    ),
    curves(
        "Decisions", "A second, by who decides. On live servers this is the offered load; in the twin it is the computer's speed.", "ops",
        (rate_by("policy, backend", "trimtab_agent_decisions_total", RUN), "{{policy}}, {{backend}}"),
    ),
])  # fmt: skip

CHOICES = Row("Choices", [
    curves(
        "Share of decisions by server", "Where the learner sends requests. One server near 100 % is a collapsed policy.", "percentunit",
        (share_by("server", "trimtab_agent_decisions_total", LEARNER), "{{server}}"), width=12, stacked=True, top=1, height=11,
    ),
    bars(
        "Decisions by server and class", "A second. Routing by class shows here: each class at the servers that are fast for it.", "reqps",
        (rate_by("server, class", "trimtab_agent_decisions_total", LEARNER), "{{class}} to {{server}}"), width=12, height=11,
    ),
])  # fmt: skip

EVALUATION = Row("Evaluation", [
    curves(
        "Mean latency as it is measured", "Policies take turns on the same traffic, so compare heights, not moments.", "s",
        (mean_by("policy", "trimtab_agent_latency_seconds", TEST), "{{policy}}"), width=12,
    ),
    curves(
        "p99 as it is measured", "The tail of each policy's turn, against the SLO.", "s",
        (quantile_by("policy", 0.99, "trimtab_agent_latency_seconds", TEST), "{{policy}}"), width=12, slo=True,
    ),
    bars(
        "Mean latency", "Over the episodes of each policy's last turn: shorter is better.", "s",
        ("sort(trimtab_evaluation_mean_latency_seconds)", EVALUATED), width=12, height=10,
    ),
    bars(
        "p99 latency", "Mean of the episodes' p99. A policy may win on the mean and lose here.", "s",
        ("sort(trimtab_evaluation_p99_latency_seconds)", EVALUATED), width=12, height=10,
    ),
    bars(
        "Time to decide", "What one decision costs. It has to stay far below the latency that it saves.", "s",
        ("sort(trimtab_evaluation_decision_seconds)", EVALUATED), width=6, height=10,
    ),
    bars(
        "Errors", "Part of each policy's requests that failed; compare latency only between policies with like errors.", "percentunit",
        ("sort(trimtab_evaluation_error_ratio)", EVALUATED), width=6, height=10, limits=[(None, "blue"), (0.05, "red")],
    ),
    bars(
        "Gini coefficient", "Evenness of the load, 0 is even. A low value is not the aim; it explains latency.", "short",
        ("sort(trimtab_evaluation_gini_coefficient)", EVALUATED), width=6, height=10,
    ),
    rows_of(
        "Episodes evaluated", "So far, by scenario, backend and policy. Few episodes make differences that are chance.", "short",
        "sum by (scenario, backend, policy) (trimtab_evaluation_episodes_total)", width=6, height=10,
    ),
])  # fmt: skip


def training() -> str:
    """JSON of the dashboard."""
    return page(
        "trimtab-training",
        "Training",
        f"Learning as train_dqn.py reports it, and evaluate_dqn.py in the row Evaluation. {SLO[1]}: slo_ms of compose-default.",
        [PROGRESS, REWARD, LATENCY, LEARNING, CHOICES, EVALUATION],
        [chooser("server", f"trimtab_agent_decisions_total{{{RUN}}}"), chooser("class", f"trimtab_agent_decisions_total{{{RUN}}}")],
        [
            annotation("Phase", "purple", NEW_PHASE, "Phase {{phase}} begins"),
            annotation("Alerts", "red", FIRING_BY_NAME, "{{alertname}}", "severity"),
        ],
    )
