import sys
from pathlib import Path

# draw.py is run as a script, so its modules lie on the path beside it
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "grafana" / "picture"))
