"""Jobs of one thread: their order, their ends, and what a click waits for beside a propagation."""

import asyncio
import inspect
import math
import pickle
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from phantoms import block

from medsam.errors import Cancelled, InputError, PromptError
from medsam.inference.predictor import Predictor
from medsam.inference.propagate import PropagateSettings, Propagation, propagate
from medsam.inference.worker import Priority, Worker
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.prompts.prompt import Prompt, SlicePrompt

CLICK, SLICE, PREFETCH, PROPAGATE, BATCH = Priority


@pytest.fixture
def worker():
    with Worker() as running:
        yield running


class Gate:
    """A job that has begun and does not end before it is opened."""

    def __init__(self, worker, priority=CLICK):
        self.begun, self.open = threading.Event(), threading.Event()
        self.job = worker.submit(self._wait, priority=priority)
        assert self.begun.wait(10)

    def _wait(self, progress):
        self.begun.set()
        assert self.open.wait(10)


def test_the_more_urgent_comes_first_and_the_older_of_equals(worker):
    done = []
    gate = Gate(worker)
    jobs = [
        worker.submit(lambda _, name=(priority, n): done.append(name), priority=priority)
        for n in range(2)
        for priority in (BATCH, PROPAGATE, PREFETCH, SLICE, CLICK)
    ]
    assert worker.waiting == 10
    gate.open.set()
    for job in jobs:
        job.result(10)
    assert done == [(priority, n) for priority in Priority for n in range(2)]


def test_results_and_errors_reach_who_waits_and_the_next_job_is_done(worker):
    def wrong(progress):
        raise PromptError("no such slice")

    assert worker.call(lambda _: threading.current_thread().name) == "worker cpu"
    with pytest.raises(PromptError, match="no such slice"):
        worker.call(wrong)
    assert worker.submit(lambda _: 3).result(10) == 3
    with pytest.raises(PromptError, match="no such slice"):
        asyncio.run(worker.run(wrong))
    assert asyncio.run(worker.run(lambda _: 4)) == 4


def slices(done, number=1000):
    """A long job, as a function that tells its progress."""

    def work(progress):
        for n in range(number):
            progress(n, number)
            done.append(n)
            time.sleep(0.001)
        return "all"

    return work


def steps(done, number=1000):
    """A long job, as a generator."""

    def work(progress):
        for n in range(number):
            yield
            done.append(n)
            time.sleep(0.001)
        return "all"

    return work


@pytest.mark.parametrize("kind", [slices, steps])
def test_a_click_gets_in_between_and_the_long_job_goes_on(worker, kind):
    done = []
    long = worker.submit(kind(done, 50), priority=PROPAGATE)
    while len(done) < 5:
        time.sleep(0.001)
    seen = worker.call(lambda _: len(done), priority=CLICK)
    assert 5 <= seen < 50
    assert long.result(10) == "all"
    assert done == list(range(50))


@pytest.mark.parametrize("kind", [slices, steps])
def test_a_running_job_is_cancelled_at_its_next_slice(worker, kind):
    done = []
    long = worker.submit(kind(done), priority=PROPAGATE)
    while not done:
        time.sleep(0.001)
    assert long.cancel()
    with pytest.raises(Cancelled):
        long.result(10)
    assert len(done) < 1000
    assert not long.cancel(), "it is done"
    assert worker.call(lambda _: 1) == 1


def test_a_cancelled_generator_cleans_up(worker):
    begun, ended = threading.Event(), []

    def work(progress):
        try:
            while True:
                begun.set()
                yield
        except Cancelled:
            ended.append(threading.current_thread().name)
            raise

    job = worker.submit(work, priority=BATCH)
    assert begun.wait(10)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(10)
    assert ended == ["worker cpu"]


def test_a_queued_job_that_is_cancelled_never_runs(worker):
    gate, done = Gate(worker), []
    job = worker.submit(done.append)
    assert job.cancel()
    with pytest.raises(Cancelled):
        job.result(0)
    gate.open.set()
    worker.call(lambda _: None, priority=BATCH)
    assert done == []


def test_what_the_listener_raises_ends_the_job_and_progress_can_be_looked_up(worker):
    def enough(done, total):
        if done == 3:
            raise Cancelled

    done = []
    job = worker.submit(slices(done), priority=PROPAGATE, progress=enough)
    assert job.progress[1] in (None, 1000)
    with pytest.raises(Cancelled):
        job.result(10)
    assert done == [0, 1, 2]
    assert job.progress == (3, 1000)


def test_a_newer_prefetch_of_a_session_replaces_the_queued_one(worker):
    gate, done = Gate(worker), []
    first = worker.submit(lambda _: done.append("a1"), priority=PREFETCH, replaces="a")
    other = worker.submit(lambda _: done.append("b1"), priority=PREFETCH, replaces="b")
    click = worker.submit(lambda _: done.append("click"), priority=CLICK, replaces="a")
    second = worker.submit(lambda _: done.append("a2"), priority=PREFETCH, replaces="a")
    with pytest.raises(Cancelled):
        first.result(0)
    gate.open.set()
    for job in (other, click, second):
        job.result(10)
    assert done == ["click", "b1", "a2"]
    worker.call(lambda _: done.append("a3"), priority=PREFETCH)
    assert done[-1] == "a3", "what has run is not replaced"


def test_work_that_calls_its_worker_does_so_at_once(worker):
    def outer(progress):
        with pytest.raises(RuntimeError, match=r"use Worker\.call"):
            worker.submit(lambda _: 1).result()
        return worker.call(lambda _: 2, priority=BATCH) + worker.call(steps([], 3), priority=BATCH).count("l")

    assert worker.call(outer, priority=CLICK) == 4


def test_what_follows_a_job_may_call_its_worker(worker):
    """A future's callbacks run on the worker's thread, after the job."""
    followed = threading.Event()
    found = []

    def follow(future):
        found.append((future.result(), worker.call(lambda _: 5)))
        followed.set()

    gate = Gate(worker)
    worker.submit(lambda _: 4).future.add_done_callback(follow)
    gate.open.set()
    assert followed.wait(10)
    assert found == [(4, 5)]


def test_an_idle_worker_keeps_no_result(worker):
    class Result:
        pass

    kept = weakref.ref(worker.call(lambda _: Result()))
    # the thread may still be on its way to its queue
    until = time.monotonic() + 10
    while kept() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert kept() is None


def test_a_gpu_that_is_not_there_is_refused_at_once():
    with pytest.raises(InputError, match="no cuda:99") as error:
        Worker("cuda:99")
    assert error.value.parameter == "device"


def test_shutdown_cancels_or_drains_and_takes_nothing_more():
    done = []
    worker = Worker()
    gate = Gate(worker)
    queued = worker.submit(lambda _: done.append("late"))
    threading.Timer(0.05, gate.open.set).start()
    worker.shutdown()
    with pytest.raises(Cancelled):
        queued.result(0)
    with pytest.raises(RuntimeError, match="shut down"):
        worker.submit(lambda _: None)
    assert done == []
    worker.shutdown()

    with Worker() as worker:
        gate = Gate(worker)
        queued = worker.submit(lambda _: done.append("drained"))
        gate.open.set()
    assert done == ["drained"]


def test_an_exception_in_its_block_cancels_what_a_worker_has():
    worker = Worker()
    long = worker.submit(slices([]), priority=BATCH)

    def block():
        with worker:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    with pytest.raises(Cancelled):
        long.result(0)


def test_a_task_that_is_cancelled_cancels_its_job(worker):
    async def main():
        done = []
        loop_free = asyncio.create_task(asyncio.sleep(0))
        running = asyncio.create_task(worker.run(slices(done), priority=BATCH))
        while not done:
            await asyncio.sleep(0.001)
        assert loop_free.done(), "the event loop does not wait"
        queued = asyncio.create_task(worker.run(done.append, priority=BATCH))
        await asyncio.sleep(0)
        queued.cancel()
        running.cancel()
        for task in (queued, running):
            with pytest.raises(asyncio.CancelledError):
                await task
        return done

    done = asyncio.run(main())
    assert worker.call(lambda _: len(done), priority=BATCH) == len(done) < 1000
    assert all(isinstance(one, int) for one in done)


# -- beside a real network --------------------------------------------------------------------------------------------

SCAN = block((16, 48, 40), (10, 12, 1, 30, 35, 15))[0]
# no two slices alike: equal ones share an embedding
SCAN.array[...] += np.random.default_rng(0).normal(size=SCAN.array.shape).astype(SCAN.array.dtype)
SEEDS = {8: SlicePrompt(1, (10, 12, 30, 35))}
# random weights: every answer is accepted, so that the walk reaches the ends of the block
CREDULOUS = PropagateSettings(min_overlap=0, min_likeness=-math.inf, max_growth=math.inf)


def tiny(worker=None) -> Predictor:
    torch.manual_seed(0)
    return Predictor(build_model(tiny_spec("vit")), "cpu", worker=worker)


class CountedEncodes:
    """How many images a predictor's engine has begun to encode. amid: called while it is at each."""

    def __init__(self, predictor, amid=lambda: None):
        self.begun = 0
        encode = predictor.engine.encode

        def counted(images):
            self.begun += len(images)
            amid()
            return encode(images)

        predictor.engine.encode = counted


def follow(predictor):
    return lambda progress: propagate(predictor.encoder_for(SCAN), SEEDS, settings=CREDULOUS, progress=progress)


def same(one: Propagation, other: Propagation) -> bool:
    # the block, which is told by its brightness
    whole = len(one.masks) == len(other.masks) == 14
    return (
        whole
        and one.predicted_iou == other.predicted_iou
        and all(np.array_equal(mask, other.masks[index]) for index, mask in one.masks.items())
    )


def test_a_click_beside_a_propagation_waits_for_the_encode_under_way_and_no_other(worker):
    alone = follow(tiny())(lambda done, total: None)
    predictor = tiny()
    session = predictor.session(SCAN, zoom="off")
    clicks, clicking, waited = [], [], []

    def click(asked, n):
        waited.append(encodes.begun - asked)
        clicking.append(n)
        # on a slice that the propagation may have reached or not
        session.click((5 * n) % 16, 20.0, 12.0 + n)
        clicking.pop()

    def somebody_clicks():
        if not clicking:
            asked, n = encodes.begun, len(clicks)
            clicks.append(worker.submit(lambda _: click(asked, n), priority=CLICK))

    encodes = CountedEncodes(predictor, somebody_clicks)
    found = worker.call(follow(predictor), priority=PROPAGATE)
    for one in clicks:
        one.result(10)
    assert len(waited) == len(clicks) > 3
    assert set(waited) == {0}, "no encode begins between a click and its answer"
    assert same(found, alone)


def test_a_predictor_with_a_worker_serves_many_threads_on_its_own(worker):
    box, clicks = (
        Prompt(box=(10, 12, 30, 35), slice=8),
        ((8, 20.0, 20.0, True), (8, 12.0, 30.0, False), (9, 20.0, 20.0, True)),
    )

    def clicked(predictor):
        session = predictor.session(SCAN)
        return [session.click(*click).mask for click in clicks]

    jobs = [
        clicked,
        lambda predictor: [predictor.propagate(SCAN, box, zoom="off").labels.array],
        lambda predictor: [predictor.segment(SCAN, box, propagate=True, max_mm=3).labels.array],
        lambda predictor: [predictor.segment(SCAN, box=(10, 12, 30, 35), slice=3).labels.array],
    ]
    expected = [job(tiny()) for job in jobs]
    threads, shared = set(), tiny(worker)
    CountedEncodes(shared, lambda: threads.add(threading.current_thread().name))
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = [one.result(30) for one in [pool.submit(job, shared) for job in jobs]]
    assert threads == {"worker cpu"}
    for ours, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert pickle.loads(pickle.dumps(shared)).worker is None


def test_progress_of_a_predictor_with_a_worker_ends_its_job_and_wrong_prompts_are_refused(worker):
    predictor, seen = tiny(worker), []

    def enough(done, total):
        seen.append(threading.current_thread().name)
        raise Cancelled

    with pytest.raises(Cancelled):
        predictor.segment(SCAN, box=(10, 12, 30, 35), slice=3, progress=enough)
    assert seen == ["worker cpu"]
    with pytest.raises(PromptError):
        predictor.segment(SCAN, box=(10, 12, 30, 35), slice=99)
    assert list(inspect.signature(predictor.segment).parameters)[:2] == ["scan", "prompts"]


def test_a_propagation_that_is_cancelled_encodes_nothing_more_and_leaves_the_predictor_fit_for_use(worker):
    predictor, jobs = tiny(), []

    def cancel():
        if encodes.begun == 3:
            jobs[0].cancel()

    encodes = CountedEncodes(predictor, cancel)
    gate = Gate(worker)
    jobs.append(worker.submit(follow(predictor), priority=PROPAGATE))
    gate.open.set()
    with pytest.raises(Cancelled):
        jobs[0].result(10)
    assert encodes.begun == 3
    again = worker.call(follow(predictor))
    assert encodes.begun == 16, "what was encoded is kept"
    assert same(again, follow(tiny())(lambda done, total: None))
