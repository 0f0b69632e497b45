"""The documents against the code: links, commands, targets, examples, and what may stand in the repository at all."""

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from trimtab.errors import UsageError
from trimtab.problems.routing.scenario_files import check_scenario

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
FOLDER_READMES = [ROOT / name / "README.md" for name in ("agent", "servers", "load", "prometheus", "grafana", "tests", "Models")]
# Written by hand for people, kept short: beyond these nobody reads to the end.
README_LINES, FOLDER_README_LINES = 250, 15
TOP_LEVEL = {
    "docker-compose.yml", "servers", "agent", "prometheus", "grafana", "load", "Models", "requirements.txt", "README.md", "pyproject.toml",
    "Makefile", "CHANGELOG.md", "LICENSE", "docs", "tests",
}  # fmt: skip
TOP_LEVEL_DOTFILES = {".ci", ".gitignore", ".gitattributes", ".dockerignore", ".editorconfig"}
PARSERS = {
    "train_dqn": ("trimtab.cli.train", "_parser"),
    "evaluate_dqn": ("trimtab.cli.evaluate", "_parser"),
    "visualize": ("trimtab.cli.visualize", "build_parser"),
    "app": ("trimtab.cli.app", "build_parser"),
}
# Spelled in pieces, so that this file does not hold what it looks for.
FORBIDDEN = ["/" + "work/", "/root" + "/", "work" + "place", "session" + " tool", "helper" + " session", "/" + "home/"]


def identify(path):
    return str(path.relative_to(ROOT))


def repository_files():
    """Paths that git tracks or would add."""
    if shutil.which("git") is None:
        pytest.skip("git says which files belong to the repository, and it is not installed")
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for path in map(Path, listing.stdout.split("\0")) if path.name and (ROOT / path).is_file()]


def text_of(path):
    return path.read_text(encoding="utf-8")


# Links


def test_the_documents_are_short():
    assert len(text_of(README).splitlines()) <= README_LINES
    for path in FOLDER_READMES:
        assert len(text_of(path).splitlines()) <= FOLDER_README_LINES, path


def relative_links(path):
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("path", [*DOCUMENTS, *FOLDER_READMES, ROOT / "CHANGELOG.md"], ids=identify)
def test_links_and_pictures_exist(path):
    missing = [link for link in relative_links(path) if not (path.parent / link).exists()]
    assert missing == []


# Commands


def code_of(path):
    """Lines of code blocks (fenced or indented) and pieces of inline code, without comments."""
    text = re.sub(r" \\\n\s+", " ", text_of(path))
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()] + re.findall(r"^ {4}(.*)$", prose, flags=re.MULTILINE)
    return [*(line.partition(" #")[0].strip() for line in lines), *re.findall(r"`([^`\n]+)`", prose)]


def agent_commands():
    commands = sorted({code for path in DOCUMENTS for code in code_of(path) if re.match(r"python3? agent/\w+\.py", code)})
    return [code for code in commands if "[" not in code]  # a synopsis is no command


def test_the_readme_shows_every_script():
    shown = {match for code in agent_commands() for match in re.findall(r"agent/(\w+)\.py", code)}
    assert {"train_dqn", "evaluate_dqn", "visualize"} <= shown


@pytest.mark.parametrize("command", agent_commands())
def test_commands_parse(command):
    _, script, *arguments = shlex.split(command)
    module, parser = PARSERS[Path(script).stem]
    assert (ROOT / script).is_file()
    getattr(importlib.import_module(module), parser)().parse_args(arguments)  # a wrong option raises UsageError


def test_a_wrong_option_would_be_noticed():
    module, parser = PARSERS["train_dqn"]
    with pytest.raises(UsageError):
        getattr(importlib.import_module(module), parser)().parse_args(["--no-such-option"])


def option_strings(script):
    module, parser = PARSERS[script]
    return set(getattr(importlib.import_module(module), parser)()._option_string_actions)


def test_options_in_tables_exist():
    """Inline code that begins with an option, as the tables have it, names options of the scripts or of the benchmarks."""
    known = set().union(*(option_strings(script) for script in PARSERS)) | {"--seconds", "--rounds", "--profile"}
    pieces = [code for path in DOCUMENTS for code in code_of(path) if code.startswith("--")]
    used = {option for code in pieces for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)}
    assert used
    assert used - known == set()


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z][a-z-]*):", text_of(ROOT / "Makefile"), flags=re.MULTILINE))
    files = [*DOCUMENTS, *FOLDER_READMES, ROOT / ".ci" / "run"]
    named = {match for path in files for match in re.findall(r"(?:`|^ *)make ([a-z][a-z-]*)", text_of(path), flags=re.MULTILINE)}
    assert {"train", "test"} <= named
    assert named - targets == set()


def test_continuous_integration_runs_the_readmes_test_command():
    assert text_of(ROOT / ".ci" / "run").rstrip().splitlines()[-1] == "make test"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


# Scenario examples


def toml_blocks():
    found = [(path, block) for path in DOCUMENTS for block in re.findall(r"^```toml\n(.*?)^```", text_of(path), flags=re.M | re.S)]
    return [pytest.param(block, id=f"{path.name}-{number}") for number, (path, block) in enumerate(found)]


def completed(fragment):
    """A fragment without `[scenario]`, put into a scenario that has everything else."""
    table = tomllib.loads(fragment)
    head = '[scenario]\nid = "fragment"\nfleet = "servers/fleet.toml"\n'
    return head + ("" if "traffic" in table else "[traffic]\nload = 0.5\n") + fragment


@pytest.mark.parametrize("block", toml_blocks())
def test_scenario_examples_are_valid(block, tmp_path):
    path = tmp_path / "example.toml"
    path.write_text(block if "[scenario]" in block else completed(block), encoding="utf-8")
    assert check_scenario(path).requests > 0


# The repository


def test_the_repository_has_the_fixed_top_level_names_only():
    names = {path.parts[0] for path in repository_files()}
    assert names - TOP_LEVEL - TOP_LEVEL_DOTFILES == set()
    assert TOP_LEVEL - names == set()


def test_no_file_speaks_of_where_it_was_written():
    for path in repository_files():
        try:
            text = text_of(ROOT / path).lower()
        except UnicodeDecodeError:
            continue  # a picture or a model
        found = [word for word in FORBIDDEN if word in text]
        assert found == [], path
