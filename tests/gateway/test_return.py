"""A server that comes back is as good as new: what was learnt of it before is forgotten."""

import numpy as np

from builders import scenario, server
from trimtab.core.request_log import FAILED, SERVED
from trimtab.gateway.guard import PlainDecider
from trimtab.gateway.health import HealthBook, HealthConfig
from trimtab.gateway.router import Router
from trimtab.policies import catalogue

SERVERS = 2
FLEET = scenario(server(), server())


def learned_router():
    """A router whose policy knows both servers, and has seen the first fail."""
    one = Router(FLEET, PlainDecider(catalogue.build("sed-online"), 0), 8)
    for index in range(SERVERS):
        only = np.arange(SERVERS) == index
        for _ in range(5):
            ticket = one.route(0, 1.0, only)
            one.finish(ticket, FAILED if index == 0 else SERVED, 1.01, 0.01)
    return one


def chosen(one):
    ticket = one.route(0, 2.0, np.ones(SERVERS, dtype=np.bool_))
    one.finish(ticket, SERVED, 2.01, 0.01)
    return ticket.server


def test_a_server_that_failed_is_shunned_until_it_is_forgotten_and_then_tried_first():
    one = learned_router()
    assert chosen(one) != 0
    one.forget(0)
    assert chosen(one) == 0


def test_forgetting_keeps_the_books_of_what_is_in_flight():
    one = learned_router()
    ticket = one.route(0, 2.0, np.arange(SERVERS) == 0)
    one.forget(0)
    assert one.in_flight[0] == 1
    one.finish(ticket, SERVED, 2.01, 0.01)
    assert one.in_flight[0] == 0


def test_the_book_tells_of_every_return_once():
    told = []
    book = HealthBook(3, HealthConfig(), told.append)
    for _ in range(5):
        book.answered(1, ok=False, now_s=0.0)
    for at_s in (1.0, 2.0, 3.0):
        book.probed(1, ok=True, now_s=at_s)
    assert told == [1]
