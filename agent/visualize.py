"""Draw learning curves, evaluation figures and one self-contained report.

python agent/visualize.py
python agent/visualize.py --csv Models/metrics/evaluation.csv --out plots
"""

from trimtab.cli.visualize import main

if __name__ == "__main__":
    raise SystemExit(main())
