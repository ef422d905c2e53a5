"""Who listens to Ctrl-C, when, and what it does then."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from palimpsest.loop.stop import SIGNALS, Stop


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def listened(stop: Stop, *numbers: int) -> list[str]:
    """Signals that come one after the other while a run listens, and where its next safe point is after them."""
    reached = []
    with pytest.raises(KeyboardInterrupt), stop.listening("step"):  # noqa: PT012
        for number in numbers:
            send(number)
            reached.append(signal.Signals(number).name)
        stop.heed()
        reached.append("went on")
    return reached


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_wish_and_heeded_where_the_run_says(number, capfd):
    stop = Stop()
    stop.heed()
    assert listened(stop, number) == [number.name]
    said = "stopping: this step is finished and written down first; Ctrl-C again stops at once"
    assert said in capfd.readouterr().err


def test_the_same_signal_again_stops_at_once_and_another_does_not():
    """A bench terminates its workers, which may have heard the same Ctrl-C as itself."""
    assert listened(Stop(), signal.SIGINT, signal.SIGTERM, signal.SIGINT) == ["SIGINT", "SIGTERM"]


def test_handlers_are_those_from_before_however_the_block_ends():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Stop().listening("step"):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    with pytest.raises(ValueError, match="in the block"), Stop().listening("step"):
        raise ValueError("in the block")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_wish_during_the_last_step_is_heeded_at_the_end():
    with pytest.raises(KeyboardInterrupt), Stop().listening("step"):
        send(signal.SIGTERM)


def test_a_handler_of_the_program_around_is_left_alone():
    own = lambda number, frame: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, own)
    try:
        with Stop().listening("step"):
            assert signal.getsignal(signal.SIGTERM) is own
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_a_thread_nothing_is_installed():
    seen = []

    def work() -> None:
        with Stop().listening("step"):
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
