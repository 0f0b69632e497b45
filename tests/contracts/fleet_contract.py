"""What every fleet promises, simulated or live. A test class inherits it and says how its fleet is made."""

import numpy as np
import pytest

from builders import episodes
from trimtab.core.reports import SILENT
from trimtab.core.request_log import FAILED, SERVED

WORK_S = 0.003  # both servers take 3 ms or less, so an episode takes a fraction of a second even live
FOREVER = np.array([np.inf])
ROUNDING_S = 1e-9


class FleetContract:
    """Inherit it and define the fixture `fleet`: two servers, 2 slots at speed 1 and 1 slot at speed 1.5 where one may wait."""

    COUNT = 24

    @pytest.fixture
    def drawn(self):
        return episodes(0.005 * np.arange(1, self.COUNT + 1), WORK_S)

    def play(self, fleet, drawn, choose=lambda n: n % 2):
        """Send everything on schedule and yield the outcomes of every wait."""
        fleet.reset(drawn)
        for n in range(drawn.arrival_s.shape[1]):
            yield fleet.wait_until(drawn.arrival_s[:, n].copy())
            fleet.dispatch(n, np.array([choose(n)]))
        yield fleet.wait_until(FOREVER)

    def test_every_request_completes_exactly_once(self, fleet, drawn):
        place = 0
        for outcomes in self.play(fleet, drawn):
            assert outcomes.start[0] == place  # what one wait has told, the next does not tell again
            place = int(outcomes.stop[0])
        assert place == fleet.log.completed[0] == self.COUNT
        assert sorted(fleet.log.order[0]) == list(range(self.COUNT))

    def test_outcomes_come_oldest_first(self, fleet, drawn):
        list(self.play(fleet, drawn))
        assert (np.diff(fleet.log.completed_s[0, fleet.log.order[0]]) >= 0).all()

    def test_dispatch_returns_while_the_request_is_still_out(self, fleet, drawn):
        fleet.reset(drawn)
        fleet.wait_until(drawn.arrival_s[:, 0].copy())
        for n in range(4):
            fleet.dispatch(n, np.array([0]))
        assert fleet.log.completed[0] == 0
        fleet.wait_until(FOREVER)
        assert fleet.log.completed[0] == 4

    def test_waiting_forever_empties_the_fleet_and_waiting_again_returns_at_once(self, fleet, drawn):
        list(self.play(fleet, drawn))
        again = fleet.wait_until(FOREVER)
        assert again.start.tolist() == again.stop.tolist() == [self.COUNT]

    def test_the_log_says_what_happened(self, fleet, drawn):
        list(self.play(fleet, drawn))
        log = fleet.log
        assert log.server[0].tolist() == [0, 1] * (self.COUNT // 2)
        assert log.scheduled_s[0] == pytest.approx(drawn.arrival_s[0])
        assert set(log.status[0]) <= {SERVED, FAILED}
        served = log.status[0] == SERVED
        assert served.sum() >= self.COUNT // 2  # a busy machine may overrun the short queue
        assert log.latency_s[0] == pytest.approx(log.completed_s[0] - log.scheduled_s[0])
        speed = np.where(log.server[0] == 0, 1.0, 1.5)
        assert (log.service_s[0] >= 0.9 * WORK_S / speed)[served].all()
        assert (log.latency_s[0] >= log.service_s[0] + log.queue_s[0] - 1e-5)[served].all()  # headers carry microseconds
        assert (log.latency_s[0] >= -ROUNDING_S).all()

    def test_requests_over_the_queue_limit_fail_and_the_others_are_served(self, fleet, drawn):
        fleet.reset(drawn._replace(work_s=np.full(drawn.work_s.shape, 100 * WORK_S)))
        fleet.wait_until(drawn.arrival_s[:, 0].copy())
        for n in range(5):
            fleet.dispatch(n, np.array([1]))
        fleet.wait_until(FOREVER)
        status = sorted(fleet.log.status[0, :5])
        assert status == [SERVED] * 2 + [FAILED] * 3  # one in the slot, one waiting
        failed = fleet.log.status[0, :5] == FAILED
        assert (fleet.log.service_s[0, :5][failed] == 0).all()
        assert (fleet.log.latency_s[0, :5][failed] < fleet.log.latency_s[0, :5][~failed].min()).all()

    def test_time_starts_at_reset_and_does_not_run_backwards(self, fleet, drawn):
        fleet.reset(drawn)
        seen = [float(fleet.now_s()[0])]
        for deadline in (0.01, 0.02, 0.03):
            fleet.wait_until(np.array([deadline]))
            seen.append(float(fleet.now_s()[0]))
        assert seen == sorted(seen)
        assert seen[0] < 10
        assert all(now >= deadline - ROUNDING_S for now, deadline in zip(seen[1:], (0.01, 0.02, 0.03), strict=True))

    def test_reset_keeps_episodes_apart_even_with_requests_out(self, fleet, drawn):
        fleet.reset(drawn)
        for n in range(4):
            fleet.dispatch(n, np.array([0]))
        fleet.reset(drawn)
        assert fleet.log.completed[0] == 0
        assert (fleet.log.server == -1).all()
        self.test_every_request_completes_exactly_once(fleet, drawn)

    def test_who_is_available(self, fleet, drawn):
        fleet.reset(drawn)
        assert fleet.available().shape == (1, 2)
        assert fleet.available().dtype == np.bool_
        assert fleet.available().all()

    def test_the_lag_is_never_negative(self, fleet, drawn):
        list(self.play(fleet, drawn))
        assert fleet.lag_s().shape == drawn.arrival_s.shape
        assert (fleet.lag_s() >= -ROUNDING_S).all()
        assert fleet.realtime or not fleet.lag_s().any()

    def test_the_oracle_and_the_best_choice_are_known(self, fleet, drawn):
        fleet.reset(drawn)
        fleet.wait_until(drawn.arrival_s[:, 0].copy())
        known = fleet.oracle(0)
        assert known.mean_service_s[0, :, 0] == pytest.approx([WORK_S, WORK_S / 1.5])
        assert known.slowness[0].tolist() == [1, 1]
        assert not known.down.any()
        assert known.delay_s[0] == pytest.approx([WORK_S, WORK_S / 1.5])
        fleet.dispatch(0, np.array([1]))
        fleet.wait_until(FOREVER)
        assert fleet.expected_best().shape == drawn.arrival_s.shape
        assert fleet.expected_best()[0, 0]

    def test_servers_report_with_their_answers(self, fleet, drawn):
        assert (fleet.load_reports().in_flight == SILENT).all()
        list(self.play(fleet, drawn))
        loads = fleet.load_reports()
        assert loads.in_flight.shape == drawn.arrival_s.shape
        assert (loads.in_flight[0] >= 0).all()
        assert (loads.in_flight[0] <= 3).all()
        assert set(np.round(loads.cpu_utilization[0], 4)) <= {0.0, 0.01, 0.02}  # 10 of 1000 a request in a slot

    def test_reports_count_what_was_left_behind(self, fleet, drawn):
        fleet.reset(drawn._replace(work_s=np.full(drawn.work_s.shape, 30 * WORK_S)))
        fleet.wait_until(drawn.arrival_s[:, 0].copy())
        fleet.dispatch(0, np.array([1]))
        fleet.wait_until(drawn.arrival_s[:, 3].copy())
        fleet.dispatch(1, np.array([1]))  # waits for the first
        fleet.wait_until(FOREVER)
        loads = fleet.load_reports()
        assert loads.in_flight[0, :2].tolist() == [1, 0]
        assert loads.cpu_utilization[0, :2].tolist() == [0.01, 0.0]

    def test_probes_tell_requests_inside_and_a_latency(self, fleet, drawn):
        fleet.reset(drawn._replace(work_s=np.full(drawn.work_s.shape, 60 * WORK_S)))
        fleet.wait_until(np.array([0.02]))
        for n in range(3):
            fleet.dispatch(n, np.array([0]))
        busy = self.probed(fleet, 0.06)
        assert {server: inside for server, (inside, _) in busy.items()} == {0: 3, 1: 0}
        fleet.wait_until(FOREVER)
        idle = self.probed(fleet, 0.8)
        assert {server: inside for server, (inside, _) in idle.items()} == {0: 0, 1: 0}
        assert 0 < idle[0][1] < 10

    def probed(self, fleet, at_s):
        """What both servers answer to a probe at that time: (in flight, latency) by server. An answer never comes with the question."""
        fleet.wait_until(np.array([at_s]))
        before = fleet.probe_answers()
        fleet.probe(np.array([[0, -1, 1]]))
        assert before.start.tolist() == before.stop.tolist()
        found = {}
        for more in range(1, 100):
            fleet.wait_until(np.array([at_s + 0.01 * more]))
            answers = fleet.probe_answers()
            log = answers.log
            for place in range(answers.start[0], answers.stop[0]):
                found[int(log.server[0, place])] = (int(log.in_flight[0, place]), float(log.latency_s[0, place]))
                assert at_s <= log.answered_s[0, place] <= at_s + 0.01 * more
            if len(found) == 2:
                break
        return found

    def test_scenarios_and_kind_of_time_are_named(self, fleet):
        assert len(fleet.scenarios) == 1
        assert isinstance(fleet.realtime, bool)
