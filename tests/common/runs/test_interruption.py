"""Signals: at once, or at the next safe moment."""

import os
import signal
from collections.abc import Callable

import pytest

from common.errors import Interrupted
from common.runs.interruption import Interruption, interruptible


def interrupted(work: Callable[[Interruption], object]) -> Interrupted:
    """Run something that a signal is to interrupt."""
    with interruptible() as interruption, pytest.raises(Interrupted) as caught:
        work(interruption)
    return caught.value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_at_once_and_says_which(number: int) -> None:
    before, reached = signal.getsignal(number), []

    def work(interruption: Interruption) -> None:
        os.kill(os.getpid(), number)
        reached.append(number)

    error = interrupted(work)
    assert error.signal_number == number and reached == []
    assert signal.getsignal(number) is before
    # Nothing that catches errors catches it.
    assert not isinstance(error, Exception)


def test_deferred_it_waits_for_a_check() -> None:
    reached: list[object] = []

    def work(interruption: Interruption) -> None:
        with interruption.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(interruption.pending)
            interruption.check()
            reached.append("went on")

    assert interrupted(work).signal_number == signal.SIGTERM
    assert reached == [True]


def test_deferred_a_second_one_does_not_wait() -> None:
    reached = []

    def work(interruption: Interruption) -> None:
        with interruption.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(1)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(2)

    assert interrupted(work).signal_number == signal.SIGINT
    assert reached == [1]


@pytest.mark.parametrize("how", ["deferred", "writing"])
def test_it_is_raised_at_the_end_at_the_latest(how: str) -> None:
    reached = []

    def work(interruption: Interruption) -> None:
        with getattr(interruption, how)():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(1)
        reached.append(2)

    interrupted(work)
    assert reached == [1]


def test_nothing_interrupts_a_file_that_is_being_written() -> None:
    reached = []

    def work(interruption: Interruption) -> None:
        with interruption.deferred(), interruption.writing():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
                os.kill(os.getpid(), number)
                reached.append(number)

    interrupted(work)
    assert len(reached) == 3


def test_what_was_heeded_interrupts_no_more() -> None:
    with interruptible() as interruption:
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        interruption.acknowledge()
        with interruption.writing():
            pass
        interruption.check()


def test_an_error_in_a_block_is_not_hidden_by_a_signal() -> None:
    def work(interruption: Interruption) -> None:
        with interruption.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ZeroDivisionError

    with interruptible() as interruption, pytest.raises(ZeroDivisionError):
        work(interruption)
