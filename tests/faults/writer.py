"""A stand-in for a learner: a process that writes a model file again and again, until it is killed.

python tests/faults/writer.py MODEL FILE
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))

from trimtab.dqn.checkpoint import load_checkpoint, save_checkpoint

EVERY_S = 0.3
CHANGE = 1e-6  # of the weights each time: another model, that decides alike

if __name__ == "__main__":
    model, file = load_checkpoint(Path(sys.argv[1])), Path(sys.argv[2])
    while True:
        for weights in model.network.values():
            if weights.is_floating_point():
                weights.mul_(1 + CHANGE)
        save_checkpoint(file, model)
        time.sleep(EVERY_S)
