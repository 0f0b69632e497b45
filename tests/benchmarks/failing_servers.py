"""What does live training do when its servers die, hang and come back?

    docker compose up -d --build --wait
    python tests/benchmarks/failing_servers.py

Trains in the twin, goes on over the Compose fleet, and meanwhile kills, pauses and stops one server after the other, each for a while. From
the training's own page of metrics it reads where the requests went. One line an event: requests that failed; seconds until a server that is
gone gets under 2 % of the next 500 decisions, counted from the command; its share from then on; seconds until a server that is back gets
half of its former share again. At the end: decisions without an outcome, which must be none.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent)]

from measuring import print_machine, print_table  # noqa: E402 - found through the path set above

PORT = 9101
WINDOW = 500  # decisions: about one episode of the last phase
GONE = 0.02
RETURN = {"kill": "start", "stop": "start", "pause": "unpause"}
EVENTS = "kill:server-3,pause:server-2,stop:server-1"
HEADER = ("event", "failed", "under 2 % after, s", "share then", "share before", "used again after, s")


@dataclass(frozen=True)
class Sample:
    """The counters at one moment (monotonic seconds), live decisions of the learner alone."""

    at_s: float
    decisions: dict[str, int]  # by server
    outcomes: dict[tuple[str, str], int]  # by server and outcome

    @property
    def decided(self) -> int:
        return sum(self.decisions.values())

    def failed(self, server: str) -> int:
        return self.outcomes.get((server, "failed"), 0)


@dataclass
class Watch:
    """Reads the training's page five times a second in a thread of its own."""

    port: int = PORT
    window: int = WINDOW  # decisions over which a share is taken
    samples: list[Sample] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def share(self, server: str, since_s: float, until_s: float = float("inf")) -> float | None:
        """The server's share of the next `window` decisions after a moment; None where there were fewer before `until_s`."""
        first = next((one for one in self.samples if one.at_s >= since_s), None)
        last = None if first is None else next((one for one in self.samples if one.decided >= first.decided + self.window), None)
        if first is None or last is None or last.at_s > until_s:
            return None
        return (last.decisions.get(server, 0) - first.decisions.get(server, 0)) / (last.decided - first.decided)

    def first(
        self, server: str, since_s: float, until_s: float, *, under: float = 2.0, over: float = -1.0, window: int = WINDOW
    ) -> float | None:
        """Seconds after `since_s` until the share of what follows is below `under` and above `over`; None if never before `until_s`."""
        for one in self.samples:
            if since_s <= one.at_s <= until_s:
                share = self.share(server, one.at_s, until_s)
                if share is not None and over < share < under:
                    return one.at_s - since_s
        return None

    def near(self, at_s: float) -> Sample:
        """The last sample up to a moment."""
        return [one for one in self.samples if one.at_s <= at_s][-1]

    def _read(self) -> None:
        with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
            while not self._over.wait(0.2):
                try:
                    page = pool.request("GET", f"http://127.0.0.1:{self.port}/metrics").data.decode()
                except urllib3.exceptions.HTTPError:
                    continue  # before the run opens its page, and after
                self.samples.append(sampled(page, time.monotonic()))


def sampled(page: str, at_s: float) -> Sample:
    """Counters of the learner's live decisions on a page of metrics."""
    decisions: dict[str, int] = {}
    outcomes: dict[tuple[str, str], int] = {}
    for family in text_string_to_metric_families(page):
        for one in family.samples:
            if one.labels.get("backend") != "http" or one.labels.get("policy") != "dqn":
                continue
            if one.name == "trimtab_agent_decisions_total":
                decisions[one.labels["server"]] = decisions.get(one.labels["server"], 0) + int(one.value)
            elif one.name == "trimtab_agent_outcomes_total":
                outcomes[one.labels["server"], one.labels["outcome"]] = int(one.value)
    return Sample(at_s, decisions, outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default=EVENTS, help=f"kill, pause or stop, and the server (default {EVENTS})")
    parser.add_argument("--hold", type=float, default=40.0, metavar="S", help="how long a server is gone (default 40)")
    parser.add_argument("--settle", type=float, default=40.0, metavar="S", help="between events (default 40)")
    parser.add_argument("--episodes", type=int, default=3200, help="in the twin before the live part (default 3200)")
    parser.add_argument("--compose", default="docker compose", help="the command (default 'docker compose'; add -f and -p as needed)")
    args = parser.parse_args()
    print_machine("servers that fail while a live training runs")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would its children
    with tempfile.TemporaryDirectory() as folder:
        training, watch = start_training(Path(folder), args.episodes), Watch()
        watch.start()
        try:
            wait_for(watch, training, 2 * WINDOW)
            rows = [line(watch, event, args) for event in args.events.split(",")]
            unanswered = min(one.decided - sum(one.outcomes.values()) for one in watch.samples[-300:])
            print_table(HEADER, rows)
            print(f"{watch.samples[-1].decided} live decisions; without an outcome between two episodes: {unanswered}")
        finally:
            watch.stop()
            training.send_signal(signal.SIGINT)
            training.wait(60)
    return 0 if unanswered == 0 else 1


def start_training(out: Path, episodes: int) -> subprocess.Popen[bytes]:
    """A hybrid run whose live part goes on until it is interrupted."""
    words = ["--episodes", str(episodes), "--live-episodes", "100000", "--metrics-port", str(PORT), "--out", str(out)]
    return subprocess.Popen([sys.executable, str(REPOSITORY / "agent" / "train_dqn.py"), *words])


def wait_for(watch: Watch, training: "subprocess.Popen[bytes]", decisions: int) -> None:
    """Until the live part has made so many decisions."""
    while not watch.samples or watch.samples[-1].decided < decisions:
        if training.poll() is not None:
            sys.exit(f"the training ended with {training.returncode}; see what it said above")
        time.sleep(0.5)


def line(watch: Watch, event: str, args: argparse.Namespace) -> Sequence[str]:
    """One event from beginning to end, as a row of the table."""
    verb, server = event.split(":")
    time.sleep(args.settle / 2)
    gone_s = time.monotonic()
    compose(args, verb, server)
    time.sleep(args.hold)
    compose(args, RETURN[verb], server)
    back_s = time.monotonic()
    time.sleep(args.settle)
    return (event, *outcome(watch, server, gone_s, back_s))


def outcome(watch: Watch, server: str, gone_s: float, back_s: float) -> tuple[str, ...]:
    """Columns of one event."""
    before, last = watch.near(gone_s), watch.samples[-1]
    former = before.decisions.get(server, 0) / max(1, before.decided)
    left_s = watch.first(server, gone_s, back_s, under=GONE)
    then = "" if left_s is None else f"{100 * (watch.share(server, gone_s + left_s) or 0.0):.1f} %"
    used_s = watch.first(server, back_s, last.at_s, over=former / 2)
    failed = last.failed(server) - before.failed(server)
    return (str(failed), shown(left_s), then, f"{100 * former:.1f} %", shown(used_s))


def shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"


def compose(args: argparse.Namespace, verb: str, server: str) -> None:
    subprocess.run([*args.compose.split(), verb, server], cwd=REPOSITORY, check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    sys.exit(main())
