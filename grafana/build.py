"""`python grafana/build.py [FOLDER]`: writes the dashboards' JSON, without an argument into grafana/dashboards."""

import sys
from pathlib import Path

from testbed import testbed
from training import training


def main(arguments: list[str]) -> int:
    """Writes both files; exit code 2 and one line where that is not possible."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent / "dashboards"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("testbed.json", testbed()), ("training.json", training())):
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"cannot write dashboards to {folder}: {error.strerror}; name a folder that may be written to\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
