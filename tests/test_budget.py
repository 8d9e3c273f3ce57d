# SPDX-License-Identifier: Apache-2.0
"""How much is done at once, whoever asks, and that nothing goes on when somebody has had enough."""

from __future__ import annotations

import threading
import time

import pytest

from copacetic.api import Settings, open_session
from copacetic.budget import Slots
from copacetic.progress import Silent


class Counted:
    """Work that says how many there were at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.done = 0

    def __call__(self, number: int) -> int:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1
            self.done += 1
        return number * 2


def test_several_who_ask_share_what_there_is() -> None:
    slots, work = Slots("test", 3), Counted()
    found: list[list[int]] = []
    askers = [threading.Thread(target=lambda: found.append(slots.map(work, range(20)))) for _ in range(5)]

    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()

    assert found == [[number * 2 for number in range(20)]] * 5
    assert work.most == 3


def test_each_result_comes_when_it_is_there_and_all_of_them_in_order() -> None:
    second_came = threading.Event()
    came: list[str] = []

    def work(name: str) -> str:
        assert name != "first" or second_came.wait(10), "the first result is waited for before others are told"
        return name

    def take(name: str) -> None:
        came.append(name)
        second_came.set()

    assert Slots("test", 2).map(work, ["first", "second"], take) == ["first", "second"]
    assert came == ["second", "first"]


def test_nothing_goes_on_after_a_failure() -> None:
    slots, work = Slots("test", 2), Counted()

    def fail_at_first(number: int) -> int:
        if number == 0:
            raise ValueError("the first")
        return work(number)

    with pytest.raises(ValueError, match="the first"):
        slots.map(fail_at_first, range(1000))

    done = work.done
    assert done < 900
    time.sleep(0.05)
    assert work.done == done


def test_images_of_a_session_share_one_budget() -> None:
    with open_session(Settings(jobs=3), Silent()) as session:
        assert session.child("a").budget is session.child("b").budget is session.budget
        assert session.budget.transfers.count == 3


def test_a_session_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with open_session(Settings(), Silent()) as session:
        session.budget.transfers.map(Counted(), range(20))
        session.budget.processors.map(Counted(), range(20))
        assert threading.active_count() > before

    assert threading.active_count() == before
