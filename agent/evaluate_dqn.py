"""Evaluate the trained policy against the classical ones on common arrivals.

python agent/evaluate_dqn.py
python agent/evaluate_dqn.py --help
"""

from trimtab.cli.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
