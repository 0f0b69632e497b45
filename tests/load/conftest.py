import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "load"), str(HERE)]

from locust_runs import SCENARIO, RecordingServer  # noqa: E402 - found through the path set above

from serving import served  # noqa: E402
from trimtab.fleets.local import LocalServers  # noqa: E402
from trimtab.problems.routing.scenario_files import save_scenario  # noqa: E402


@pytest.fixture(scope="session")
def scenario_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("load") / "small.toml"
    save_scenario(path, SCENARIO)
    return str(path)


@pytest.fixture(scope="session")
def server_url():
    """A real server in a process of its own."""
    with LocalServers(SCENARIO) as servers:
        yield servers.urls[0]


@pytest.fixture
def recorder():
    with served(RecordingServer()) as one:
        yield one
