import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.gateway.limits import Timeouts

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
SERVERS = [f"server-{number}" for number in range(1, 5)]


def load(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services():
    return load("docker-compose.yml")["services"]


def test_four_servers_on_8081_to_8084_of_loopback_from_one_image(services):
    assert [services[name]["ports"] for name in SERVERS] == [[f"127.0.0.1:{port}:8000"] for port in range(8081, 8085)]
    assert {services[name]["image"] for name in SERVERS} == {"trimtab-server:dev"}
    assert [name for name in services if "build" in services[name]] == ["server-1", "load-master", "gateway"]
    assert [services[name]["environment"]["SERVER_ID"] for name in SERVERS] == SERVERS


def test_every_server_has_limits_a_health_check_and_a_restart_policy(services):
    for name in SERVERS:
        assert {"cpus", "mem_limit", "healthcheck", "restart"} <= set(services[name])
    assert len({(services[name]["cpus"], services[name]["mem_limit"]) for name in SERVERS}) > 2  # unequal


def test_nothing_is_published_beyond_loopback_and_images_are_pinned(services):
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert ":" in service["image"]
        assert not service["image"].endswith(":latest")


def test_every_service_is_guarded_and_bounded_by_the_same_rules(services):
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_override_changes_where_images_come_from_and_nothing_else():
    changed = load(".ci/offline/compose.yml")["services"]
    assert {name: set(service) for name, service in changed.items()} == {
        "server-1": {"build"},
        "load-master": {"build"},
        "gateway": {"build"},
        "prometheus": {"image", "build"},
        "grafana": {"profiles"},
    }


def test_faults_are_off_unless_asked_for(services):
    assert {services[name]["environment"]["TRIMTAB_FAULTS"] for name in SERVERS} == {"${TRIMTAB_FAULTS:-0}"}


def test_prometheus_scrapes_every_server_under_its_own_name():
    (job,) = [one for one in load("prometheus/prometheus.yml")["scrape_configs"] if one["job_name"] == "servers"]
    assert [(one["targets"], one["labels"]["server"]) for one in job["static_configs"]] == [([f"{name}:8000"], name) for name in SERVERS]


def test_the_gateway_has_a_profile_reaches_all_servers_and_has_time_to_drain(services):
    gateway = services["gateway"]
    options = dict(zip(gateway["command"][::2], gateway["command"][1::2], strict=True))
    assert options["--servers"].split(",") == [f"http://{name}:8000" for name in SERVERS]
    assert options["--policy"] == "${TRIMTAB_POLICY:-sed-online}"
    assert (gateway["profiles"], gateway["ports"]) == (["gateway"], ["127.0.0.1:8080:8080"])
    assert "/readyz" in gateway["healthcheck"]["test"][-1]
    assert int(gateway["stop_grace_period"].removesuffix("s")) > Timeouts().drain_s


def test_the_gateways_image_has_the_versions_of_the_repository():
    assert pins("agent/requirements.txt").items() <= pins("requirements.txt").items()


def pins(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_grafana_reads_the_composed_prometheus():
    (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")


@pytest.mark.parametrize("folder", ["servers", "load", "agent"])
def test_images_run_as_an_ordinary_user(folder):
    lines = (ROOT / folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert "USER trimtab" in lines
    assert "ARG BASE_IMAGE=python:3.12-slim" in lines


# One process


def server_process(*options, **variables):
    """gunicorn as the image starts it, with stderr to read."""
    environment = {
        "PATH": os.environ["PATH"],
        "TRIMTAB_FLEET": "servers/fleet.toml",
        "SERVER_ID": "server-1",
        "TRIMTAB_BIND": "127.0.0.1:0",
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "servers/gunicorn.conf.py", *options]
    return subprocess.Popen(command, cwd=ROOT, env=environment | variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("options", "variables", "found"),
    [
        (["--workers", "2"], {}, "2 workers"),
        ([], {"GUNICORN_CMD_ARGS": "--workers=3"}, "3 workers"),
        ([], {"WEB_CONCURRENCY": "4"}, "WEB_CONCURRENCY is 4"),
    ],
)
def test_a_second_worker_is_refused_at_start_in_one_line(options, variables, found):
    with server_process(*options, **variables) as server:
        _, stderr = server.communicate(timeout=30)
    assert server.returncode == 2
    assert len(stderr.splitlines()) == 1
    assert found in stderr
    assert "allowed: 1" in stderr


def children(process):
    return (Path("/proc") / f"{process.pid}/task/{process.pid}/children").read_text().split()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are counted in /proc")
def test_a_running_server_refuses_a_second_worker(eventually):
    with server_process(WEB_CONCURRENCY="1") as server:
        try:
            eventually(lambda: len(children(server)) == 1)
            server.send_signal(signal.SIGTTIN)
            assert "2 workers" in server.stderr.readline()
            assert len(children(server)) == 1
        finally:
            server.kill()


def test_the_servers_import_nothing_from_the_agent():
    for path in (ROOT / "servers").glob("*.py"):
        assert "trimtab." not in path.read_text(encoding="utf-8"), path.name
