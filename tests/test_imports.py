"""Who may import whom, read from the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.problems.catalogue import NAMES

ROOT = Path(__file__).resolve().parents[1]
AGENT, SERVERS = ROOT / "agent", ROOT / "servers"
PACKAGE = AGENT / "trimtab"

# Each may import itself, what stands in its set, and the two modules that everybody may import.
ALLOWED = {
    "core": set(),
    "fleets": {"core"},
    "dqn": {"core"},
    "policies": {"core", "fleets", "dqn"},
    "problems": {"core", "fleets", "dqn", "policies"},
    "experiments": {"core", "fleets", "dqn", "policies", "problems"},
    "report": {"core", "fleets", "dqn", "policies", "problems", "experiments"},
    "telemetry": {"core"},
    "gateway": {"telemetry", "core", "fleets", "dqn", "policies", "problems", "experiments"},
    "cli": {"core", "fleets", "dqn", "policies", "problems", "experiments", "report", "gateway", "telemetry"},
    "errors": set(),
    "paths": set(),
}
FOR_ALL = {"errors", "paths"}
# Everything under dqn/, and those who use it.
WITH_TORCH = {"policies/learned.py", *(f"experiments/{name}.py" for name in ("session", "runs", "traffic", "rollouts"))}
# A worker process is told the name of its problem, and looks it up.
BY_NAME = {"experiments/rollouts.py"}


def modules(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path):
    """Full dotted names of all that a file imports, wherever in it: `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {str(node.module), *(f"{node.module}.{one.name}" for one in node.names)}
    return found


def tops(path):
    return {name.split(".")[0] for name in imports(path)}


def parts_used(path):
    return {name.split(".")[1] for name in imports(path) if name.startswith("trimtab.")} & set(ALLOWED)


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", modules(PACKAGE), ids=name_of)
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own != "__init__":
        assert parts_used(path) <= ALLOWED[own] | FOR_ALL | {own}


def test_every_folder_has_its_place_in_the_order():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(ALLOWED)


def test_only_the_learner_and_its_users_import_torch():
    with_torch = {name_of(path) for path in modules(PACKAGE) if "torch" in tops(path)}
    assert {name for name in with_torch if not name.startswith("dqn/")} <= WITH_TORCH


def test_the_core_knows_no_clock_socket_chance_or_tensor():
    foreign = {"torch", "socket", "time", "random", "urllib", "urllib3", "requests", "asyncio", "threading", "subprocess", "datetime"}
    for path in modules(PACKAGE / "core"):
        assert not tops(path) & foreign, name_of(path)


def test_nothing_uses_the_global_generator():
    """Chance is an argument: only generators that somebody seeds."""
    allowed = r"np\.random\.(Generator|PCG64|SeedSequence|default_rng\(\s*[^\s)])"
    for path in modules(PACKAGE):
        rest = re.sub(allowed, "", path.read_text(encoding="utf-8"))
        assert "np.random." not in rest, name_of(path)


def test_agent_and_experiments_serve_any_problem():
    for folder in ("experiments", "dqn"):
        for path in modules(PACKAGE / folder):
            used = {name.split(".")[2] for name in imports(path) if name.startswith("trimtab.problems.")}
            assert used <= {"base", *(["catalogue"] if name_of(path) in BY_NAME else [])}, name_of(path)


def test_servers_stand_alone():
    for path in modules(SERVERS):
        assert "trimtab" not in tops(path), path.name


def test_the_scripts_folder_is_no_package_and_shadows_nothing():
    assert not (AGENT / "__init__.py").exists()
    beside = {path.stem for path in AGENT.iterdir() if path.suffix == ".py" or path.is_dir()} - {"trimtab", "__pycache__"}
    assert not beside & set(sys.stdlib_module_names)
    assert not {path.stem for path in SERVERS.glob("*.py")} & set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["policies.catalogue", "problems.catalogue", *(f"problems.{name}.problem" for name in NAMES)])
def test_lists_of_choices_do_not_load_torch(module):
    """A second that nobody should wait for --help or --policies list."""
    code = f"import sys, trimtab.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=AGENT, check=False).returncode == 0
