"""What `load/` takes from the package in `agent/`: traffic and scenarios. The one place here that touches the import path.

Of the package only modules that need no more than numpy and tomli_w may be named here: `load/requirements.txt` holds nothing else.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "agent"))

from trimtab.core.metrics import FEWEST_BEYOND  # noqa: E402 -- found through the path set above
from trimtab.core.scenario import F64, RequestClass, Scenario, Traffic  # noqa: E402
from trimtab.core.scenario_text import parse_scenario, scenario_table  # noqa: E402
from trimtab.core.traffic import Episode, draw_episode, intensity_rps  # noqa: E402
from trimtab.errors import ResultsError, TrimtabError, UsageError  # noqa: E402
from trimtab.problems.routing.scenario_files import list_scenarios, load_scenario, load_trace  # noqa: E402

__all__ = [
    "F64",
    "FEWEST_BEYOND",
    "REPOSITORY",
    "Episode",
    "RequestClass",
    "ResultsError",
    "Scenario",
    "Traffic",
    "TrimtabError",
    "UsageError",
    "draw_episode",
    "intensity_rps",
    "list_scenarios",
    "load_scenario",
    "load_trace",
    "parse_scenario",
    "scenario_table",
]
