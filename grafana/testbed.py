"""The dashboard Testbed: what happens to requests, in the order in which it happens. Live servers only: the twin has no metrics."""

from parts import FIRING_BY_NAME, Row, annotation, bars, chooser, curves, number, page, words
from queries import (
    BOTH,
    SERVER,
    gateway,
    gateway_part_by,
    gateway_quantile_by,
    gateway_rate_by,
    mean_by,
    quantile_by,
    rate,
    rate_by,
    share_by,
)

LIVE = 'backend="http"'
LIVE_BOTH = f"{LIVE},{BOTH}"
LIVE_CLASS = f'{LIVE},class=~"$class"'
FACTOR_LIMITS = [(None, "green"), (0.5, "green"), (2, "orange")]  # those of the alert LoadShareFarFromCapacityShare
SHARE_LIMITS = [(None, "green"), (0.05, "red")]  # those of the alerts ServerErrorsHigh and AgentSeesFailures
BUSY_LIMITS = [(None, "green"), (0.8, "orange"), (0.95, "red")]
UP = {"0": ("down", "red"), "1": ("up", "green")}
IN = {"0": ("out", "red"), "1": ("in", "green")}
PANIC = {"0": ("no", "green"), "1": ("panic", "red")}
STOPPED = {"0": ("learns", "green"), "1": ("stopped", "red")}
BEHIND_LIMITS = [(None, "green"), (0.1, "orange")]  # WORST_RATIO of trimtab/gateway/sentinel.py
CLASS = 'class=~"$class"'
# No series ALERTS means that no alert is active: one of the few places where nothing is zero.
FIRING = 'count(ALERTS{alertstate="firing",severity!="info"}) or on() vector(0)'
CAPACITY_SHARE = f"server:trimtab_server_capacity_requests_per_second:share{{{SERVER}}}"

TRAFFIC = Row("Traffic", [
    curves(
        "Requests by class", "What the servers are given. Look here first when latency changes: was it the load?", "reqps",
        (rate_by("class", "trimtab_server_requests_total", BOTH), "{{class}}"), width=7, stacked=True,
    ),
    curves(
        "Requests by server", "The same requests by server. A server at 0 has been left by the policy, or is down.", "reqps",
        (rate_by("server", "trimtab_server_requests_total", BOTH), "{{server}}"), width=7, stacked=True,
    ),
    number(
        "Requests now", "Requests a second that the chosen servers answer, whatever the status.", "reqps",
        (f"sum({rate('trimtab_server_requests_total', BOTH)})", "requests"), width=3, spark=True,
    ),
    number(
        "Load", "Requests a second over what a class-blind balancer can use. Class-aware routing can carry more than 100 %.", "percentunit",
        (f"sum({rate('trimtab_server_requests_total')}) / sum(trimtab_server_capacity_requests_per_second)", "load"),
        width=4, limits=BUSY_LIMITS, spark=True,
    ),
    number(
        "Alerts firing", "Those of severity warning and critical. Above 0, the page Alerts of Prometheus says which, and what to look at.",
        "short", (FIRING, "alerts"), width=3, limits=[(None, "green"), (1, "red")],
    ),
])  # fmt: skip

DECISIONS = Row("Decisions", [
    curves(
        "Decisions by server", "Where the agent sends requests. A server that becomes slow should lose its part here.", "reqps",
        (rate_by("server", "trimtab_agent_decisions_total", LIVE_BOTH), "{{server}}"), width=6, stacked=True, height=9,
    ),
    bars(
        "Share of decisions, share of capacity", "Equal bars are what a class-blind balancer aims at. Routing by class makes them differ "
        "on purpose: a server may do few long requests.", "percentunit",
        (share_by("server", "trimtab_agent_decisions_total", LIVE_BOTH), "{{server}} sent"), (CAPACITY_SHARE, "{{server}} could"),
        width=7, height=9,
    ),
    curves(
        "Load share / capacity share", "1 is a load in proportion to the server. Beyond the dashed line, look whether that server queues.",
        "short", (f"server:trimtab_server_requests:share_to_capacity_share{{{SERVER}}}", "{{server}}"),
        width=7, top=2, limits=FACTOR_LIMITS, height=9,
    ),
    words(
        "Policy now", "Who decides at this moment. During an evaluation the policies take turns.",
        (f"topk(1, {rate_by('policy', 'trimtab_agent_decisions_total', LIVE)})", "{{policy}}"), height=9,
    ),
])  # fmt: skip

SERVERS = Row("Servers", [
    number(
        "Up", "Whether Prometheus reaches the server. A crash fault leaves it up: look at its status codes.", "short",
        (f'up{{job="servers",{SERVER}}}', "{{server}}"), texts=UP, name=True,
    ),
    curves(
        "Slots busy", "Part of the time that a slot is at work. Near 100 % the queue grows without bound.", "percentunit",
        (f"server:trimtab_server_slots:utilization_ratio_rate30s{{{SERVER}}}", "{{server}}"), width=7, top=1, limits=BUSY_LIMITS,
    ),
    curves(
        "Requests inside", "In a slot or waiting for one, at the moment of the scrape. Compare with the number of slots.", "short",
        (f"trimtab_server_in_flight_requests{{{SERVER}}}", "{{server}}"), width=7,
    ),
    curves(
        "Requests waiting", "For a slot. A queue on one server while others have none is a choice that could have been better.", "short",
        (f"trimtab_server_queued_requests{{{SERVER}}}", "{{server}}"), width=6,
    ),
    curves(
        "Modelled CPU", "Cost of the requests in slots over the server's capacity, as the agent is told; not what the process uses.",
        "percentunit", (f"trimtab_server_cpu_utilization_ratio{{{SERVER}}}", "{{server}}"), width=5, top=1, limits=BUSY_LIMITS,
    ),
    curves(
        "Modelled memory", "The same for memory. Heavy requests cost most: look for them when it is near 100 %.", "percentunit",
        (f"trimtab_server_memory_utilization_ratio{{{SERVER}}}", "{{server}}"), width=5, top=1, limits=BUSY_LIMITS,
    ),
    curves(
        "Process CPU", "Cores that the server's process really uses. Near the container's limit the host, not the policy, sets latency.",
        "percentunit", (rate_by("server", "process_cpu_seconds_total", f'job="servers",{SERVER}'), "{{server}}"), width=5,
    ),
    curves(
        "Process memory", "Resident memory of the server's process. It should be flat; the containers' limits are 128 to 256 MiB.", "bytes",
        (f'process_resident_memory_bytes{{job="servers",{SERVER}}}', "{{server}}"), width=5,
    ),
    curves(
        "Faults active", "Injected faults. Above 0, compare decisions before and after; /faults of the server says which.", "short",
        (f"sum by (server) (trimtab_server_faults_active{{{SERVER}}})", "{{server}}"), width=4, top=1,
    ),
])  # fmt: skip

OUTCOMES = Row("Outcomes", [
    curves(
        "Status codes", "What the servers answer. 503 is a full queue or a crash, 500 a fault, 400 and 413 a client's mistake.", "reqps",
        (rate_by("status", "trimtab_server_requests_total", BOTH), "{{status}}"), width=6, stacked=True,
    ),
    curves(
        "Error share", "Part of a server's answers with status 500 or 503. The dashed line is where the alert begins.", "percentunit",
        (f"server:trimtab_server_errors:ratio_rate30s{{{SERVER}}}", "{{server}}"), width=6, top=0.1, limits=SHARE_LIMITS,
    ),
    curves(
        "Response p50 by class", "Half of the served requests are faster than this, waiting included, as the servers measure it.", "s",
        (quantile_by("class", 0.5, "trimtab_server_response_seconds", BOTH), "{{class}}"), width=6,
    ),
    curves(
        "Response p99 by class", "The slowest hundredth. See which class crosses the SLO, then its queue and service time below.", "s",
        (quantile_by("class", 0.99, "trimtab_server_response_seconds", BOTH), "{{class}}"), width=6, slo=True,
    ),
    curves(
        "Response p99 by server and class", "Finds the pair behind a slow class: a server that is slow for it, or one that is full.", "s",
        (f"server_class:trimtab_server_response_seconds:p99_rate30s{{{BOTH}}}", "{{server}} {{class}}"), slo=True, height=9,
    ),
    curves(
        "Mean service time", "Time in a slot. It depends on server and class alone: a change means a slowdown fault or a busy host.", "s",
        (mean_by("server, class", "trimtab_server_service_seconds", BOTH), "{{server}} {{class}}"), height=9,
    ),
    curves(
        "Mean queue time", "Time before a slot is free. This is the part of the latency that routing can avoid.", "s",
        (mean_by("server, class", "trimtab_server_queue_seconds", BOTH), "{{server}} {{class}}"), height=9,
    ),
    curves(
        "Agent: outcomes", "What became of the agent's requests. Failed ones were refused, broken off or too late.", "reqps",
        (rate_by("outcome", "trimtab_agent_outcomes_total", f"{LIVE},{SERVER}"), "{{outcome}}"), width=6,
    ),
    curves(
        "Agent: failed share", "Failures by the server they were sent to. A killed server fails here though it counts no error itself.",
        "percentunit", (f"server:trimtab_agent_failures:ratio_rate30s{{{SERVER}}}", "{{server}}"), width=6, top=0.1, limits=SHARE_LIMITS,
    ),
    curves(
        "Agent: latency p50 by class", "From the scheduled arrival to completion. Compare with the servers' p50: the rest is on the way.",
        "s", (quantile_by("class", 0.5, "trimtab_agent_latency_seconds", LIVE_CLASS), "{{class}}"), width=6,
    ),
    curves(
        "Agent: latency p99 by class", "What a user would feel, against the SLO. Far above the servers' p99, requests wait outside them.",
        "s", (quantile_by("class", 0.99, "trimtab_agent_latency_seconds", LIVE_CLASS), "{{class}}"), width=6, slo=True,
    ),
])  # fmt: skip

COST = "trimtab_gateway_decider_cost_total"
FAILED = 'trimtab_gateway_decider_outcomes_total{outcome="failed"}'
MEASURED = 'trimtab_gateway_decider_outcomes_total{outcome!="unmeasured"}'
GATEWAY = Row("Gateway", [
    curves(
        "Gateway: requests by class", "What clients ask of app.py, each request once. Class none: refused before its class was known.",
        "reqps", (gateway_rate_by("class", "trimtab_gateway_requests_total", CLASS), "{{class}}"), width=6, stacked=True,
    ),
    curves(
        "Gateway: answers by status class", "What clients get. 5xx that no server shows: none was in, or too slow. none: the client left.",
        "reqps", (gateway_rate_by("code_class", "trimtab_gateway_requests_total", BOTH), "{{code_class}}"), width=6, stacked=True,
    ),
    curves(
        "Gateway: decisions by server", "Where requests and retries go. An ejected server falls to 0, and comes back by a ramp.", "reqps",
        (gateway_rate_by("server", "trimtab_gateway_decisions_total", BOTH), "{{server}}"), width=6, stacked=True,
    ),
    curves(
        "Gateway: decisions by decider", "Who chose. With a model, look whether the fallback's part grows.", "reqps",
        (gateway_rate_by("decider", "trimtab_gateway_decisions_total", BOTH), "{{decider}}"), width=6, stacked=True,
    ),
    curves(
        "Gateway: latency p50 by class", "Arrival at the gateway to the end of the answer. Compare with the servers' p50 above.", "s",
        (gateway_quantile_by("class", 0.5, "trimtab_gateway_latency_seconds", CLASS), "{{class}}"), width=6,
    ),
    curves(
        "Gateway: latency p99 by class", "What the slowest hundredth of clients feel, retries included, against the SLO.", "s",
        (gateway_quantile_by("class", 0.99, "trimtab_gateway_latency_seconds", CLASS), "{{class}}"), width=6, slo=True,
    ),
    curves(
        "Gateway: overhead", "Part of the latency that no server accounts for: gateway and network. When it grows, one core is not enough.",
        "s", *[(gateway_quantile_by("", part, "trimtab_gateway_overhead_seconds"), name) for part, name in ((0.5, "p50"), (0.99, "p99"))],
        width=6,
    ),
    curves(
        "Gateway: refusals by limit", "Requests answered 503 because a limit was reached. Above 0, look for slow servers, or for more load "
        "than they can carry.", "reqps", (gateway_rate_by("reason", "trimtab_gateway_refusals_total"), "{{reason}}"), width=6, top=1,
    ),
    curves(
        "Gateway: fallbacks by reason", "What the guard holds against a model; slow ones are still used. Empty under a classical policy.",
        "reqps", (gateway_rate_by("reason", "trimtab_gateway_fallbacks_total"), "{{reason}}"), width=6,
    ),
    curves(
        "Gateway: retries by result", "Second and third tries. no_budget is a retry that was not sent: too much fails at once.", "reqps",
        (gateway_rate_by("result", "trimtab_gateway_retries_total"), "{{result}}"), width=6,
    ),
    curves(
        "Gateway: ejections", "How often each server was ejected since the gateway started. A staircase is a server that flaps.", "short",
        (gateway(f"trimtab_gateway_ejections_total{{{SERVER}}}"), "{{server}}"), width=5, top=1,
    ),
    number(
        "Gateway: servers in", "Whether the gateway offers the server to the policy: neither ejected nor down by its own checks.", "short",
        (gateway(f"trimtab_gateway_server_up{{{SERVER}}}"), "{{server}}"), texts=IN, name=True,
    ),
    number(
        "Gateway: panic", "Fewer than half of the servers are in, so all are offered. Look at the servers first.", "short",
        (gateway("trimtab_gateway_panic"), "panic"), width=3, texts=PANIC,
    ),
    curves(
        "Gateway: reward by decider", "Minus the latency in mean service times, a failure 40 or more. Compare canary and policy.",
        "short", (f"-{gateway_part_by('decider', COST, MEASURED)}", "{{decider}}"), width=8, top=0,
    ),
    curves(
        "Gateway: latency p50 by decider", "Decision to end of answer. A fallback decides in bad moments, so its curve may lie high.", "s",
        (gateway_quantile_by("decider", 0.5, "trimtab_gateway_decider_latency_seconds"), "{{decider}}"), width=8,
    ),
    curves(
        "Gateway: failed share by decider", "Tries that failed. A canary more than 5 points above the others is stopped by itself.",
        "percentunit", (gateway_part_by("decider", FAILED, MEASURED), "{{decider}}"), width=8, top=0.1, limits=SHARE_LIMITS,
    ),
    curves(
        "Gateway: shadow agrees", "Part of the shadow's decisions that match the routing. Empty without --shadow.", "percentunit",
        (gateway("trimtab_gateway_shadow_agreement_ratio"), "agreement"), width=6, top=1,
    ),
    curves(
        "Gateway: shadow's gain", "What the shadow would save a request: by its own Q-values, and as sed-online expects delays.", "s",
        (gateway("trimtab_gateway_shadow_gain_seconds"), "{{by}}"), width=6, top=0.01,
    ),
    curves(
        "Gateway: model files", "Files put in place or refused since the start. Refused is a broken file; the model before stays.", "short",
        (gateway("trimtab_gateway_model_loads_total"), "{{role}} {{result}}"), width=6, top=1,
    ),
    curves(
        "Gateway: canary's share", "Part of requests that the canary decides about. 0: it failed too often and was stopped.", "percentunit",
        (gateway("trimtab_gateway_canary_share_ratio"), "share"), width=6, top=0.1,
    ),
])  # fmt: skip

LEARNT_S, CONTROL_S = (gateway(f'trimtab_gateway_learning_latency_seconds{{group="{group}"}}') for group in ("learned", "control"))
# A row of its own: a gateway that explores takes no models on trial, so no single one fills both.
LEARNING = Row("Gateway that learns", [
    curves(
        "Gateway: learned and control", "Means of the last 30 s at the same class mix, failures counted as in training. Learned above "
        "control for long is stopped.", "s", (gateway("trimtab_gateway_learning_latency_seconds"), "{{group}}"), width=8,
    ),
    curves(
        "Gateway: learned over control", "How much slower the model is than its control group. It is stopped beyond the dashed line, "
        "unless chance may explain it.", "percentunit", (f"{LEARNT_S} / ignoring (group) {CONTROL_S} - 1", "slower"),
        width=7, top=0.2, limits=BEHIND_LIMITS,
    ),
    curves(
        "Gateway: share of the learned model", "Part of requests that it decides about. At 0 it rests for 60 s, then comes back in steps.",
        "percentunit", (gateway("trimtab_gateway_learning_share_ratio"), "share"), width=6, top=1,
    ),
    number(
        "Gateway: learning", "Stopped: behind three times in a row; sed-online decides everything until the gateway is started anew.",
        "short", (gateway("trimtab_gateway_learning_stopped"), "learning"), width=3, texts=STOPPED,
    ),
])  # fmt: skip


def testbed() -> str:
    """JSON of the dashboard."""
    return page(
        "trimtab-testbed",
        "Testbed",
        "Live servers in data-flow order: traffic, decisions, servers, outcomes; then the gateway, while app.py runs.",
        [TRAFFIC, DECISIONS, SERVERS, OUTCOMES, GATEWAY, LEARNING],
        [chooser("server", "trimtab_server_slots"), chooser("class", "trimtab_server_requests_total")],
        [annotation("Alerts", "red", FIRING_BY_NAME, "{{alertname}}", "severity")],
    )
