"""One Compose stack for all tests of this folder: brought up from nothing, watched, and taken down with everything it made.

TRIMTAB_DOCKER=require makes a missing engine a failure, TRIMTAB_DOCKER=skip leaves these tests out; without it they run where an engine
answers. TRIMTAB_OFFLINE=1 takes the override for machines without a registry even where one answers.
"""

import functools
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "trimtab-test"  # never the user's own project: its volumes must survive the tests
OVERRIDE = ".ci/offline/compose.yml"
REGISTRY = "https://registry-1.docker.io/v2/"
TO_HAVE_ONE = "install Docker with its Compose plugin and start it, on Debian by .ci/engine.sh"
PROMETHEUS = "http://127.0.0.1:9090"
# What the Compose file and the tools take from the environment; the tests want the file's own defaults.
VARIABLES = ("TRIMTAB_FLEET", "TRIMTAB_FAULTS", "TRIMTAB_POLICY", "BASE_IMAGE", "GRAFANA_ADMIN_PASSWORD")
FIRST_TIMEOUT_S = 900  # the first test waits for base image, builds and start


def pytest_collection_modifyitems(items):
    """These tests go last, so that no other test meets a fleet on 8081-8084; the first waits for the whole stack."""
    own = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    reason = why_to_skip() if own else None
    for item in own:
        item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT_S))
        if reason:
            item.add_marker(pytest.mark.skip(f"the checks of the real Compose stack, {reason}"))
    items.sort(key=lambda item: item in own)


# Engine


def run(*command, timeout_s=60.0, check=True, env=None):
    """A finished command with its output as text; CalledProcessError shows what it wrote."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert not check or done.returncode == 0, (
        f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    )
    return done


@functools.cache
def what_is_missing():
    """Why the stack cannot be run here, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if run("docker", "compose", "version", check=False).returncode != 0:
        return "docker has no Compose plugin"
    try:
        answered = run("docker", "info", check=False, timeout_s=20).returncode == 0
    except subprocess.TimeoutExpired:
        answered = False
    return None if answered else "no Docker engine answers"


def why_to_skip():
    """The reason to leave these tests out, or None: without an engine where nobody demands one, or on request."""
    wish = os.environ.get("TRIMTAB_DOCKER", "")
    if wish not in ("", "require", "skip"):
        raise pytest.UsageError(f"TRIMTAB_DOCKER is {wish!r}; allowed: require, skip, or nothing")
    if wish == "skip":
        return "as TRIMTAB_DOCKER=skip asks; unset it to run them"
    return f"since {what_is_missing()}; to have them, {TO_HAVE_ONE}" if wish == "" and what_is_missing() else None


@pytest.fixture(scope="session", autouse=True)
def engine():
    """Fails every test of this folder where an engine is demanded and missing; without the demand they are skipped before."""
    if what_is_missing():
        pytest.fail(f"{what_is_missing()}, and TRIMTAB_DOCKER=require demands the Compose stack; {TO_HAVE_ONE}", pytrace=False)


# Images


def registry_answers():
    """Does Docker Hub answer within seconds? 401 is its ordinary answer to a stranger."""
    try:
        with urllib.request.urlopen(REGISTRY, timeout=3) as reply:
            return reply.status == 200
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    except OSError:
        return False


def have_image(name):
    return run("docker", "image", "inspect", name, check=False).returncode == 0


def must_be_offline():
    """Are images of the plain Compose file neither here nor to be had?"""
    if os.environ.get("TRIMTAB_OFFLINE") == "1":
        return True
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    names = ["python:3.12-slim", services["prometheus"]["image"], services["grafana"]["image"]]
    return not all(map(have_image, names)) and not registry_answers()


def dangling_images():
    return set(run("docker", "image", "ls", "--quiet", "--no-trunc", "--filter", "dangling=true").stdout.split())


def own_image_ids():
    """The project's images by id. Compose labels images by project, so each build here takes the name away from the user's own image."""
    listing = run("docker", "image", "ls", "--quiet", "--no-trunc", "--filter", "reference=trimtab-*")
    return set(listing.stdout.split())


def remove_displaced(images):
    """Removes those of `images` that lost their name to our builds, unless a container still uses them."""
    for image in images & dangling_images():
        run("docker", "image", "rm", image, check=False)


# Stack


@dataclass(frozen=True)
class Stack:
    """The running testbed. `offline`: the override is on, so there is no Grafana."""

    offline: bool

    def compose(self, *arguments, env=None, check=True, timeout_s=300.0):
        """`docker compose ARGUMENTS` on this stack, with the variables `env`; a finished process whose output is text."""
        files = ["--file", "docker-compose.yml", *(["--file", OVERRIDE] if self.offline else [])]
        command = ["docker", "compose", "--env-file", os.devnull, "--project-name", PROJECT, *files, *arguments]
        kept = {key: value for key, value in os.environ.items() if key not in VARIABLES and not key.startswith("COMPOSE_")}
        return run(*command, check=check, timeout_s=timeout_s, env=kept | (env or {}))

    def config(self):
        """The services as Compose understands its files, profiles left out."""
        return json.loads(self.compose("config", "--format", "json").stdout)["services"]

    def inspect(self, service):
        """What the engine says of the service's container."""
        container = self.compose("ps", "--all", "--quiet", service).stdout.strip()
        (found,) = json.loads(run("docker", "inspect", container).stdout)
        return found

    def prometheus(self, path, **parameters):
        """The data of one call of Prometheus' API, such as `prometheus("query", query="up")`."""
        reply = requests.get(f"{PROMETHEUS}/api/v1/{path}", params=parameters, timeout=5)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def host_address(self):
        """What Prometheus takes for the host; where that is no address of this machine (Docker Desktop), it reaches loopback instead."""
        hosts = [line.split() for line in self.compose("exec", "-T", "prometheus", "cat", "/etc/hosts").stdout.splitlines()]
        (address,) = [words[0] for words in hosts if "host.docker.internal" in words]
        try:
            with socket.socket() as probe:
                probe.bind((address, 0))
        except OSError:
            return "127.0.0.1"
        return address

    def up(self):
        """Everything up and healthy, or a failure with what the containers wrote."""
        done = self.compose("up", "--detach", "--build", "--wait", "--wait-timeout", "120", check=False, timeout_s=600)
        if done.returncode != 0:
            logs = self.compose("logs", "--tail", "20", check=False).stdout
            pytest.fail(f"the stack did not come up:\n{done.stderr[-3000:]}\n{logs[-6000:]}", pytrace=False)

    def clear(self):
        """Removes everything of the project: containers of all profiles, networks, volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans")

    def leftovers(self, *kinds):
        """Ids of what the engine still holds of this project: container, network, volume."""
        own = f"label=com.docker.compose.project={PROJECT}"
        commands = {"container": ("container", "ls", "--all"), "network": ("network", "ls"), "volume": ("volume", "ls")}
        return [name for kind in kinds for name in run("docker", *commands[kind], "--quiet", "--filter", own).stdout.split()]


def require_free_ports(stack):
    for service in stack.config().values():
        for port in (int(one["published"]) for one in service.get("ports", [])):
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    pytest.fail(f"something listens on port {port}, which the Compose stack needs; stop it (`make down`)", pytrace=False)


def take_down(stack):
    """First as a user does, who keeps the volumes, then with them; nothing may stay behind."""
    stack.compose("down")
    assert stack.leftovers("container", "network") == []
    assert stack.leftovers("volume") != []
    stack.clear()
    assert stack.leftovers("container", "network", "volume") == []


@pytest.fixture(scope="session")
def stack(engine):
    """The stack of docker-compose.yml from a clean state, healthy, with the defaults; gone afterwards.

    A test that stops or changes a service brings it back (`stack.up()`) before it ends.
    """
    one = Stack(must_be_offline())
    if one.offline:
        run(".ci/offline/base-image.sh", timeout_s=600)
    one.clear()  # what an interrupted run left
    require_free_ports(one)
    dangling, named = dangling_images(), own_image_ids()
    try:
        one.up()
    except BaseException:
        one.clear()  # also on Ctrl-C
        raise
    yield one
    take_down(one)
    remove_displaced(named)
    assert dangling_images() - dangling - named == set(), "the builds left images without a name behind"


@pytest.fixture
def eventually() -> Callable[..., object]:
    """Waits until a condition holds and gives its value; after the deadline the last value fails the test."""

    def wait(condition, deadline_s=30.0):
        end_s = time.monotonic() + deadline_s
        while not (value := condition()):
            assert time.monotonic() < end_s, f"never held within {deadline_s:g} s: {value!r}"
            time.sleep(0.2)
        return value

    return wait
