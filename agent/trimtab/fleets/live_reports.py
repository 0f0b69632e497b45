"""What live servers say of themselves: reports that came with answers, read when somebody asks, and answers to probes."""

import queue
from typing import Final

import numpy as np

from trimtab.core.reports import LoadLog, ProbeAnswers, empty_load_log, empty_probe_log
from trimtab.core.request_log import SERVED, RequestLog
from trimtab.fleets.client import Answer
from trimtab.fleets.load_header import parse_load, parse_probe

PROBE_PATH: Final = "/probe"


class LiveReports:
    """Of one fleet and one episode. Texts are kept as they came: a policy that never asks pays nothing for reading them."""

    def __init__(self, requests: int) -> None:
        self._texts = [""] * requests
        self._loads = empty_load_log(1, requests)
        self._read = 0
        self._answers = empty_probe_log(1, 0)
        self._answered = 0

    def heard(self, request: int, text: str) -> None:
        """An answer came with this report."""
        self._texts[request] = text

    def loads(self, log: RequestLog) -> LoadLog:
        """Reports of all requests completed by now."""
        for place in range(self._read, int(log.completed[0])):
            request = int(log.order[0, place])
            load = parse_load(self._texts[request])
            self._loads.in_flight[0, request] = load.in_flight
            self._loads.cpu_utilization[0, request] = load.cpu_utilization
            self._loads.memory_utilization[0, request] = load.memory_utilization
            self._read = place + 1
        return self._loads

    def make_room(self, probes: int) -> None:
        """For so many answers in the episode."""
        if self._answers.server.shape[1] < probes:
            larger = empty_probe_log(1, probes)
            for old, new in zip(self._answers, larger, strict=True):
                new[:, : self._answered] = old[:, : self._answered]
            self._answers = larger

    def take(self, arrived: "queue.SimpleQueue[tuple[float, int, int, int, Answer]]", number: int, started_s: float) -> ProbeAnswers:
        """Empty the queue of probes that were answered; those of another round, or that failed, count for nothing."""
        start = self._answered
        while True:
            try:
                finished_s, own, _, server, answer = arrived.get_nowait()
            except queue.Empty:
                break
            if own == number:
                self._note(server, answer, finished_s - started_s)
        return ProbeAnswers(self._answers, np.array([start]), np.array([self._answered]))

    def _note(self, server: int, answer: Answer, answered_s: float) -> None:
        probed = parse_probe(answer.body) if answer.status == SERVED else None
        if probed is None:
            return
        log, place = self._answers, self._answered
        log.server[0, place] = server
        log.in_flight[0, place], log.latency_s[0, place] = probed
        log.answered_s[0, place] = answered_s
        self._answered = place + 1
