"""Train a DQN that routes requests over unequal servers.

python agent/train_dqn.py
python agent/train_dqn.py --help
"""

from trimtab.cli.train import main

if __name__ == "__main__":
    raise SystemExit(main())
