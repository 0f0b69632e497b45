"""The user's Compose file on a real engine: health, guards, limits that hold, and what reaches the servers from outside."""

import csv
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import requests
import yaml
from prometheus_client import CollectorRegistry, Gauge, start_http_server

ROOT = Path(__file__).resolve().parents[2]
SERVERS = [f"server-{number}" for number in range(1, 5)]
SLACK_S = 0.5  # of processor time that was saved up, and of the commands that read the counters
TINY = """
[scenario]
id = "tiny"
fleet = "servers/fleet.toml"
requests = 60
warmup = 10
[traffic]
load = 0.3
"""


def test_every_service_is_healthy(stack):
    rows = [json.loads(line) for line in stack.compose("ps", "--all", "--format", "json").stdout.splitlines()]
    expected = {*SERVERS, "prometheus"} | (set() if stack.offline else {"grafana"})
    assert {row["Service"]: row["Health"] for row in rows} == dict.fromkeys(expected, "healthy")


def test_containers_are_guarded(stack):
    for service in stack.config():
        host = stack.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service


def test_processes_are_ordinary_users_who_cannot_write_to_the_image(stack):
    for service in stack.config():
        assert int(stack.compose("exec", "-T", service, "id", "-u").stdout) > 0, service
        assert "Read-only file system" in stack.compose("exec", "-T", service, "touch", "/x", check=False).stderr, service


def test_ports_are_published_on_loopback_only(stack):
    for service in stack.config():
        published = [one for many in stack.inspect(service)["NetworkSettings"]["Ports"].values() for one in many or []]
        assert {one["HostIp"] for one in published} == {"127.0.0.1"}, service


def test_the_engine_holds_the_limits_of_the_file(stack):
    wanted = {name: (stack.config()[name]["cpus"], int(stack.config()[name]["mem_limit"])) for name in SERVERS}
    hosts = {name: stack.inspect(name)["HostConfig"] for name in SERVERS}
    assert {name: (host["NanoCpus"] / 1e9, host["Memory"]) for name, host in hosts.items()} == wanted
    assert len(set(wanted.values())) > 2  # unequal


def test_faults_are_off_by_default(stack):
    for port in range(8081, 8085):
        assert requests.get(f"http://127.0.0.1:{port}/faults", timeout=5).status_code == 404


# Limits


@pytest.fixture
def burners(stack, eventually):
    """Two more containers of the largest and of the smallest server, doing cpu work, on ports of their own."""
    containers = {}
    try:
        for service in ("server-1", "server-4"):
            words = ("run", "--detach", "--no-deps", "--publish", "127.0.0.1::8000", service)
            containers[service] = stack.compose(*words, env={"TRIMTAB_FLEET": "servers/fleet-cpu.toml"}).stdout.split()[-1]
        for container in containers.values():
            eventually(lambda container=container: answers(address(container)))
        yield containers
    finally:
        docker("rm", "--force", *containers.values())


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def address(container):
    return f"http://{docker('port', container, '8000/tcp').split()[0]}"


def answers(url):
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


def work(url):
    """One heavy job, which burns cpu time."""
    reply = requests.get(f"{url}/job/heavy", headers={"X-Work": "5"}, timeout=30)
    assert reply.status_code == 200


def processor_s(container):
    """Processor time that the container has used: cgroup v2's file, else v1's."""
    text = docker("exec", container, "sh", "-c", "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct/cpuacct.usage")
    counters = dict(line.split() for line in text.splitlines() if " " in line)
    return int(counters["usage_usec"]) / 1e6 if counters else int(text) / 1e9


def throttled_periods(container):
    """How often the kernel made the container wait: cgroup v2's file, else v1's."""
    text = docker("exec", container, "sh", "-c", "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.stat")
    return int(dict(line.split() for line in text.splitlines())["nr_throttled"])


def test_cpu_limits_bind(stack, burners):
    # What holds on a busy machine too: a limit is a ceiling. How long a job takes is not, for others slow the larger server down.
    small, limit = burners["server-4"], stack.config()["server-4"]["cpus"]
    throttled, used_s, began_s = throttled_periods(small), processor_s(small), time.monotonic()
    for _ in range(5):
        work(address(small))
    elapsed_s = time.monotonic() - began_s
    assert throttled_periods(small) > throttled
    assert processor_s(small) - used_s <= limit * (elapsed_s + SLACK_S)


def test_memory_limits_kill(stack):
    done = stack.compose("run", "--rm", "--no-deps", "server-4", "python3", "-c", "b'x' * (600 << 20)", check=False)
    assert done.returncode == 137


# Prometheus


def health_of_targets(stack):
    return {(one["labels"]["job"], one["labels"].get("server", "")): one["health"] for one in stack.prometheus("targets")["activeTargets"]}


def test_prometheus_reaches_every_server_and_itself(stack, eventually):
    expected = {("servers", name) for name in SERVERS} | {("prometheus", "")}
    eventually(lambda: expected <= {target for target, health in health_of_targets(stack).items() if health == "up"})
    assert {one["metric"]["server"] for one in stack.prometheus("query", query="trimtab_server_slots > 0")["result"]} == set(SERVERS)


def test_rules_are_loaded_and_evaluated_without_errors(stack, eventually):
    def evaluated():
        rules = [rule for group in stack.prometheus("rules")["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

    written = sum(len(group["rules"]) for group in yaml.safe_load((ROOT / "prometheus/rules.yml").read_text())["groups"])
    rules = eventually(evaluated)
    assert len(rules) == written
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def test_a_training_run_on_the_host_is_scraped(stack, eventually):
    registry, value = CollectorRegistry(), float(uuid.uuid4().int % 1_000_000)
    Gauge("trimtab_test_marker", "Says that this very process was read.", registry=registry).set(value)
    server, thread = start_http_server(9101, addr=stack.host_address(), registry=registry)
    try:
        eventually(lambda: health_of_targets(stack)["training", ""] == "up")
        eventually(lambda: [one["value"][1] for one in stack.prometheus("query", query="trimtab_test_marker")["result"]] == [f"{value:g}"])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Commands


def test_the_evaluation_finds_the_compose_fleet_by_itself(stack, tmp_path):
    scenario, rows = tmp_path / "tiny.toml", tmp_path / "rows.csv"
    scenario.write_text(TINY)
    words = ["--backend", "http", "--episodes", "1", "--policies", "least-outstanding,round-robin"]
    command = [sys.executable, "agent/evaluate_dqn.py", *words, "--scenario", str(scenario), "--csv", str(rows)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Compose fleet at localhost:8081-8084" in done.stderr
    with rows.open(newline="") as lines:
        assert [(row["policy"], row["error_rate"]) for row in csv.DictReader(lines)] == [("least-outstanding", "0"), ("round-robin", "0")]


def test_a_mistyped_fleet_file_is_an_error_that_changes_nothing(stack):
    done = stack.compose("run", "--rm", "--no-deps", "server-1", "true", env={"TRIMTAB_FLEET": "servers/no-such.toml"}, check=False)
    assert done.returncode != 0
    assert "servers/no-such.toml" in done.stderr
    assert not (ROOT / "servers/no-such.toml").exists()


def test_the_load_profile_is_a_master_with_as_many_workers_as_asked_for(stack, eventually):
    own = ("load-master", "load-worker")
    try:
        stack.compose("--profile", "load", "up", "--detach", "--build", "--wait", "--scale", "load-worker=2", *own, timeout_s=600)
        eventually(lambda: len(requests.get("http://127.0.0.1:8089/stats/requests", timeout=5).json().get("workers", [])) == 2)
        for service in own:
            assert int(stack.compose("exec", "-T", service, "id", "-u").stdout) > 0
    finally:
        stack.compose("--profile", "load", "rm", "--force", "--stop", *own)


def test_the_gateway_profile_routes_to_every_server_and_drains_at_the_end(stack, eventually):
    try:
        stack.compose("--profile", "gateway", "up", "--detach", "--build", "--wait", "gateway", timeout_s=600)
        assert [requests.get("http://127.0.0.1:8080/job/light", timeout=5).status_code for _ in range(40)] == [200] * 40
        state = requests.get("http://127.0.0.1:8080/api/state", timeout=5).json()
        assert (state["policy"], state["counts"]["served"]) == ("sed-online", 40)
        assert [(one["id"], one["status"]) for one in state["servers"]] == [(name, "ok") for name in SERVERS]
        seen = 'sum(trimtab_gateway_requests_total{gateway="compose",code_class="2xx"})'
        eventually(lambda: [one["value"][1] for one in stack.prometheus("query", query=seen)["result"]] == ["40"])
        host = stack.inspect("gateway")["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
        assert int(stack.compose("exec", "-T", "gateway", "id", "-u").stdout) > 0
        stack.compose("--profile", "gateway", "stop", "gateway")
        assert stack.inspect("gateway")["State"]["ExitCode"] == 0, "it ends by itself, not by SIGKILL"
        assert "ended: 40 served, 0 failed, 0 cut off" in stack.compose("logs", "gateway").stdout
    finally:
        stack.compose("--profile", "gateway", "rm", "--force", "--stop", "gateway")
