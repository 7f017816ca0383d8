"""Tickets for one image."""

from __future__ import annotations

from medsam.server.monailabel.tickets import LASTS_S, Tickets, without_ticket


def test_a_ticket_is_for_one_image_one_reader_and_an_hour():
    now = [1000.0]
    tickets = Tickets(lambda: now[0])
    given = tickets.given("CT (3), a~b", 7)
    assert without_ticket(given) == "CT (3), a~b"
    assert tickets.reader(given) == 7
    ticket = given.rpartition("~")[2]
    ends, signed = ticket.split(".")[1:]
    for forged in (
        f"other~{ticket}",
        f"CT (3), a~b~8.{ends}.{signed}",
        f"CT (3), a~b~7.{int(ends) + 1}.{signed}",
        "x",
        "",
        "~",
    ):
        assert tickets.reader(forged) is None, forged
    # of another process
    assert Tickets(lambda: now[0]).reader(given) is None
    now[0] += LASTS_S + 1
    assert tickets.reader(given) is None
    assert without_ticket("a~b") == "a~b"
