import logging
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from medsam.silence import Rule, silence

NOISY = Rule(module=r"tests?\b|test_silence|.*test_silence$")
ANY = Rule()


def warned() -> bool:
    """Whether a warning of the present thread reaches the filters of the process, which tests have raise it."""
    try:
        warnings.warn("said", UserWarning, stacklevel=1)
    except UserWarning:
        return True
    return False


def test_warnings_are_kept_quiet_inside_alone():
    assert warned()
    with silence(ANY):
        assert not warned()
    assert warned()


def test_a_rule_names_message_category_and_module():
    for rule, quiet in (
        (Rule(message="SAI"), True),
        (Rule(message="aid"), False),
        (Rule(category=UserWarning), True),
        (Rule(category=DeprecationWarning), False),
        (Rule(module=__name__.replace(".", r"\.")), True),
        (Rule(module="another"), False),
    ):
        with silence(rule):
            assert warned() is not quiet, rule


def test_blocks_nest_and_what_is_raised_ends_them():
    with silence(ANY):
        with pytest.raises(ValueError, match="no"), silence(ANY, loggers=("noisy",)):
            raise ValueError("no")
        assert not warned()
    assert warned()


def test_an_error_goes_before_what_is_ignored():
    with silence(ANY), silence(Rule("error", category=UserWarning)):
        assert warned()


def test_filters_that_come_later_do_not_count_inside():
    with silence(ANY):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with silence(ANY):
            assert not warned()
        assert warned()


def test_the_list_of_filters_does_not_grow():
    with warnings.catch_warnings():
        for _ in range(5):
            warnings.simplefilter("error")
            with silence(ANY, Rule("error", category=BytesWarning)):
                pass
            lengths = [len(warnings.filters)]
        assert set(lengths) == {len(warnings.filters)}
        before = list(warnings.filters)
        with silence(ANY, Rule("error", category=BytesWarning)):
            assert warnings.filters == before
        assert warnings.filters == before


def test_filters_can_be_handed_to_another_process():
    with silence(NOISY):
        pass
    assert pickle.loads(pickle.dumps(warnings.filters)) == warnings.filters


def test_another_thread_is_heard_unless_it_takes_the_context_along(caplog):
    log = logging.getLogger("noisy.part")

    def speak(words: str) -> bool:
        log.error(words)
        return warned()

    with ThreadPoolExecutor(1) as pool, silence(ANY, loggers=("noisy",)):
        assert pool.submit(speak, "of another").result()
        assert not pool.submit(copy_context().run, speak, "of ours").result()
        assert not speak("here")
    assert caplog.messages == ["of another"]


def test_two_blocks_that_overlap_leave_nothing_behind(caplog):
    filters, level = list(warnings.filters), logging.getLogger("noisy").level
    began, may_end = threading.Event(), threading.Event()

    def longer() -> bool:
        with silence(ANY, loggers=("noisy",)):
            began.set()
            assert may_end.wait(20)
            return warned()

    with ThreadPoolExecutor(1) as pool:
        with silence(ANY, loggers=("noisy",)):
            other = pool.submit(longer)
            assert began.wait(20)
        assert warned()
        may_end.set()
        assert not other.result()
    logging.getLogger("noisy").warning("after")
    assert caplog.messages == ["after"]
    assert (logging.getLogger("noisy").level, [f for f in warnings.filters if f in filters]) == (level, filters)


def test_records_under_a_level_are_dropped_of_a_logger_and_those_below_it(caplog):
    made = f"noisy.{time.time_ns()}"  # inside the block
    with silence(loggers=("noisy",), below=logging.ERROR):
        for name in ("noisy", made, "noisier"):
            logging.getLogger(name).warning(f"{name} warns")
            logging.getLogger(name).error(f"{name} fails")
    assert caplog.messages == ["noisy fails", f"{made} fails", "noisier warns", "noisier fails"]
