"""Where things lie: the repository, the servers' folder, the models' folder."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def servers_dir() -> Path:
    """The Flask fleet's folder; TRIMTAB_SERVERS overrides it."""
    return Path(os.environ.get("TRIMTAB_SERVERS") or REPOSITORY / "servers")


def models_dir() -> Path:
    """Where training writes; TRIMTAB_MODELS overrides it."""
    return Path(os.environ.get("TRIMTAB_MODELS") or REPOSITORY / "Models")
