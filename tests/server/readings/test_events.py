import asyncio
import json

from medsam.server.readings.events import Event, Events


def changed(revision):
    return Event("mask", revision, changes=True, more={"object": 1, "slice": revision})


async def taken(events, since, count):
    """The next `count` events for somebody who has revision `since`."""
    found = []
    watch = events.watch(since, alive=0.01)
    async for event in watch:
        found.append(event)
        if len(found) == count:
            break
    await watch.aclose()
    return found


def test_a_watcher_gets_what_it_missed_and_then_what_comes():
    async def play():
        events = Events(revision=4)
        for revision in (5, 6, 7):
            events.publish(changed(revision))
        task = asyncio.create_task(taken(events, 5, 4))
        await asyncio.sleep(0)
        events.publish(Event("job", 7, more={"job": "a", "done": 1}))
        return await task

    found = asyncio.run(play())
    assert [(event.kind, event.revision) for event in found] == [("mask", 5), ("mask", 6), ("mask", 7), ("job", 7)]


def test_a_connection_that_was_lost_between_two_events_of_one_revision_misses_neither():
    async def play():
        events = Events(revision=4)
        for event in (changed(5), changed(5), Event("job", 5, more={"job": "a", "state": "done"})):
            events.publish(event)
        # the first one was the last that came through
        return await taken(events, 5, 3)

    assert [event.kind for event in asyncio.run(play())] == ["mask", "mask", "job"]


def test_without_a_revision_only_the_news_is_told():
    async def play():
        events = Events(revision=0)
        events.publish(changed(1))
        return await taken(events, None, 1)

    assert asyncio.run(play()) == [None]


def test_what_the_ring_has_forgotten_is_asked_for_anew():
    async def play():
        events = Events(revision=0, kept=3)
        for revision in range(1, 7):
            events.publish(changed(revision))
        return [await taken(events, since, 1) for since in (0, 2, 3, 5)]

    missed, just_missed, whole, last = asyncio.run(play())
    assert missed == just_missed == [Event("resync", 6)]
    assert [event.revision for event in whole] == [4]
    assert [event.revision for event in last] == [5]


def test_a_revision_from_before_or_after_this_reading_is_asked_for_anew():
    async def play():
        events = Events(revision=10)
        return [await taken(events, since, 1) for since in (9, 11, 10)]

    assert asyncio.run(play()) == [[Event("resync", 10)], [Event("resync", 10)], [None]]


def test_a_slow_watcher_holds_no_memory_and_is_told_to_ask_anew():
    async def play():
        events = Events(revision=0, kept=8)
        watch = events.watch(0, alive=0.01)
        events.publish(changed(1))
        first = await anext(watch)
        for revision in range(2, 500):
            events.publish(changed(revision))
        second = await anext(watch)
        events.publish(changed(500))
        third = await anext(watch)
        held = len(events._ring)
        await watch.aclose()
        return first, second, third, held, events.watchers

    first, second, third, held, watchers = asyncio.run(play())
    assert (first.revision, second, third.revision) == (1, Event("resync", 499), 500)
    assert (held, watchers) == (8, 0)


def test_closing_ends_every_watch():
    async def play():
        events = Events(revision=0)
        tasks = [asyncio.create_task(taken(events, 0, 10**6)) for _ in range(3)]
        await asyncio.sleep(0.02)
        events.close()
        return await asyncio.wait_for(asyncio.gather(*tasks), 2)

    assert all(set(found) <= {None} for found in asyncio.run(play()))


def test_as_text_an_event_has_its_revision_as_id():
    text = Event("mask", 12, changes=True, more={"object": 1, "slice": 3}).to_text()
    head, data, *rest = text.split("\n")
    assert (head, rest) == ("id: 12", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {"revision": 12, "kind": "mask", "object": 1, "slice": 3}
