import threading
import time

import pytest

from gate import FOREVER, CrashedError, Gate, QueueFullError, RefusedError

JOIN_S = 10


def start(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def outcome_of(action, into):
    try:
        into.append(action())
    except (CrashedError, RefusedError) as error:
        into.append(type(error))


def test_slots_are_granted_in_order_of_arrival(eventually):
    gate, order = Gate(slots=2, queue_limit=50, kinds=1), []

    def visit(name):
        ticket = gate.enter(0)
        order.append(name)
        gate.leave(ticket)

    first, second = gate.enter(0), gate.enter(0)
    threads = []
    for name in range(20):
        threads.append(start(visit, name))
        eventually(lambda: gate.queued == len(threads))
    gate.leave(first)  # one slot now passes from hand to hand through the queue
    for thread in threads:
        thread.join(JOIN_S)
    gate.leave(second)
    assert order == list(range(20))
    assert gate.in_flight == 0


def test_a_newcomer_cannot_overtake_the_request_that_was_handed_the_slot(eventually):
    gate, granted = Gate(slots=1, queue_limit=1, kinds=1), []
    holder = gate.enter(0)
    waiter = start(lambda: granted.append(gate.enter(0)))
    eventually(lambda: gate.queued == 1)
    gate.leave(holder)
    assert gate.in_flight == 1, "the slot is taken although its new owner may not run yet"
    newcomer = start(lambda: gate.enter(0))
    eventually(lambda: gate.queued == 1)
    waiter.join(JOIN_S)
    gate.leave(granted[0])
    newcomer.join(JOIN_S)
    assert not newcomer.is_alive()


def test_beyond_the_queue_limit_is_refused_at_once():
    gate = Gate(slots=1, queue_limit=0, kinds=1)
    gate.enter(0)
    with pytest.raises(QueueFullError):
        gate.enter(0)


def test_busy_slots_are_counted_when_the_service_starts(eventually):
    gate, granted = Gate(slots=2, queue_limit=5, kinds=2), []
    one, two = gate.enter(0), gate.enter(1)
    assert (one.busy, two.busy) == (1, 2)
    assert gate.serving_by_kind == [1, 1]
    waiter = start(lambda: granted.append(gate.enter(1)))
    eventually(lambda: gate.queued == 1)
    gate.leave(one)
    waiter.join(JOIN_S)
    assert granted[0].busy == 2
    assert gate.serving_by_kind == [0, 2]


def test_hold_never_ends_much_too_early():
    gate = Gate(slots=1, queue_limit=0, kinds=1)
    for _ in range(20):
        ticket = gate.enter(0)
        gate.hold(ticket, 0.002, ticket.granted_s)
        assert time.monotonic() - ticket.granted_s > 0.0018
        gate.leave(ticket)


def test_time_spent_before_hold_belongs_to_the_service():
    gate = Gate(slots=1, queue_limit=0, kinds=1)
    ticket = gate.enter(0)
    gate.freeze(FOREVER)  # a hold with time left would block for ever
    gate.hold(ticket, 5.0, ticket.granted_s - 5.0)


def test_a_freeze_stops_services_until_restored(eventually):
    gate, done = Gate(slots=1, queue_limit=5, kinds=1), []
    ticket = gate.enter(0)
    gate.freeze(FOREVER)
    # Timed from its own start: time that a busy machine takes to start the thread would count as served.
    thread = start(outcome_of, lambda: gate.hold(ticket, 0.2, time.monotonic()), done)
    thread.join(0.5)
    assert not done
    gate.restore()
    eventually(lambda: done == [None])


def test_a_freeze_interrupts_a_service_and_ends_by_itself():
    gate, done = Gate(slots=1, queue_limit=5, kinds=1), []
    ticket = gate.enter(0)
    thread = start(outcome_of, lambda: gate.hold(ticket, 0.3, ticket.granted_s), done)
    until_s = ticket.granted_s + 0.4
    gate.freeze(until_s)
    thread.join(JOIN_S)
    assert done == [None]
    assert time.monotonic() >= until_s


def test_a_crash_fails_services_and_the_queue_promptly_and_refuses_newcomers(eventually):
    gate, ends = Gate(slots=1, queue_limit=5, kinds=1), []
    ticket = gate.enter(0)
    inside = [
        start(outcome_of, lambda: gate.hold(ticket, 3600.0, ticket.granted_s), ends),
        start(outcome_of, lambda: gate.enter(0), ends),
        start(outcome_of, lambda: gate.linger(3600.0), ends),
    ]
    eventually(lambda: gate.queued == 1 and gate._lingering)
    gate.crash(FOREVER)
    for thread in inside:
        thread.join(JOIN_S)
    assert ends == [CrashedError] * 3
    assert gate.crashed
    with pytest.raises(RefusedError):
        gate.enter(0)
    gate.leave(ticket)
    gate.restore()
    gate.leave(gate.enter(0))
    assert gate.in_flight == 0


def test_a_crash_reaches_a_frozen_service(eventually):
    gate, ends = Gate(slots=1, queue_limit=5, kinds=1), []
    ticket = gate.enter(0)
    gate.freeze(FOREVER)
    thread = start(outcome_of, lambda: gate.hold(ticket, 1.0, ticket.granted_s), ends)
    gate.crash(FOREVER)
    thread.join(JOIN_S)
    assert ends == [CrashedError]


def test_hundreds_of_crashing_visitors_leave_no_slot_taken():
    gate = Gate(slots=3, queue_limit=100, kinds=1)

    def visit():
        try:
            ticket = gate.enter(0)
        except (CrashedError, RefusedError):
            return
        try:
            gate.hold(ticket, 0.0005, ticket.granted_s)
        except CrashedError:
            pass
        finally:
            gate.leave(ticket)

    threads = [start(visit) for _ in range(60)]
    for _ in range(10):
        gate.crash(time.monotonic() + 0.0005)
        threads += [start(visit) for _ in range(10)]
        gate.restore()
    for thread in threads:
        thread.join(JOIN_S)
    assert gate.in_flight == 0
    assert gate.serving_by_kind == [0]
