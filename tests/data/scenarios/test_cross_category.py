from __future__ import annotations

import pytest
from tests.data.scenarios.conftest import keeps_the_law

from palimpsest.data.streams.scenarios.cross_category import chosen_categories, cross_task_category
from palimpsest.data.streams.tasks import Task, by_domain
from palimpsest.errors import DataError, PlanError


def test_a_class_of_each_of_two_tasks_goes_after_tasks_two_and_four(five_tasks: tuple[Task, ...]) -> None:
    label = {i: c for task in five_tasks for i, c in task.labels.items()}
    home = {i: n for n, task in enumerate(five_tasks) for i in task.ids}
    seen = set()
    for seed in range(20):
        stream = cross_task_category(five_tasks, seed=seed)
        assert [bool(r.forget) for r in stream.requests] == [False, False, True, False, False, True, False]
        for asked, learned in ((stream.requests[2], 2), (stream.requests[5], 4)):
            gone = {label[i] for i in asked.forget}
            assert len(gone) == 2
            assert set(asked.forget) == {i for i in label if label[i] in gone}  # whole classes
            tasks = {home[i] for i in asked.forget}
            assert len(tasks) == 2
            assert max(tasks) < learned
            seen.add((learned, *sorted(gone)))
    assert len(seen) > 10  # the seed decides


@pytest.mark.parametrize(("tasks", "expected"), [(2, [2]), (3, [2]), (4, [2, 4])])
def test_short_streams_unlearn_after_those_tasks_that_are_there(
    five_tasks: tuple[Task, ...], tasks: int, expected: list[int]
) -> None:
    stream = cross_task_category(five_tasks[:tasks], seed=0)
    learned = [sum(not r.forget for r in stream.requests[:n]) for n, r in enumerate(stream.requests) if r.forget]
    assert learned == expected


def test_one_task_has_no_two_to_lose_a_class(five_tasks: tuple[Task, ...]) -> None:
    with pytest.raises(DataError, match="after task 1, 1 tasks still have a class and 2 are to lose one"):
        cross_task_category(five_tasks[:1], seed=0)


def test_a_task_that_lost_all_its_classes_is_not_asked_again() -> None:
    domains = by_domain({"a": ["1", "2"], "b": ["3"], "c": ["4"]})
    stream = cross_task_category(domains, seed=0, after=(2, 3), num_tasks=1)
    gone = [set(r.forget) for r in stream.requests if r.forget]
    assert not gone[0] & gone[1]
    assert len(stream.known_after(len(stream) - 1)) == 4 - len(gone[0] | gone[1])
    with pytest.raises(
        DataError, match=r"after task 3, 1 tasks still have a class and 2 are to lose one; accepted: at most 1"
    ):
        cross_task_category(domains, seed=0, after=(2, 3))


def test_the_same_class_in_two_domains_is_two_categories() -> None:
    domains = by_domain({"a": ["1", "2"], "b": ["3", "4"]}, labels={"1": 0, "2": 1, "3": 0, "4": 1})
    stream = chosen_categories(domains, {2: [("b", "0")]})
    assert stream.requests[-1].forget == ("3",)


def test_chosen_categories_go_after_their_tasks(five_tasks: tuple[Task, ...]) -> None:
    stream = chosen_categories(five_tasks, {2: [("0+1", "1")], 5: [("8+9", "9"), ("0+1", "0")]})
    keeps_the_law(stream)
    assert [r.learn for r in stream.requests if r.learn] == [task.ids for task in five_tasks]
    assert [len(r.forget) for r in stream.requests] == [0, 0, 6, 0, 0, 0, 12]


def test_what_is_not_there_is_refused(five_tasks: tuple[Task, ...]) -> None:
    with pytest.raises(DataError, match=r"unknown class of task '0\+1' '7'; accepted: 0, 1"):
        chosen_categories(five_tasks, {1: [("0+1", "7")]})
    with pytest.raises(DataError, match=r"unknown task '1\+0'; accepted: 0\+1, 2\+3"):
        chosen_categories(five_tasks, {1: [("1+0", "0")]})
    with pytest.raises(DataError, match=r"request 1 .*6 of 6 ids to forget were never learned"):
        chosen_categories(five_tasks, {1: [("2+3", "2")]})
    with pytest.raises(DataError, match=r"request 3 .*6 of 6 ids to forget were forgotten before"):
        chosen_categories(five_tasks, {1: [("0+1", "0")], 2: [("0+1", "0")]})


def test_options_out_of_range_are_refused(five_tasks: tuple[Task, ...]) -> None:
    for number in (0, 6):
        with pytest.raises(PlanError, match=f"unlearning after task {number}; accepted: 1 to 5"):
            cross_task_category(five_tasks, seed=0, after=(1, number))
        with pytest.raises(PlanError, match=f"unlearning after task {number}; accepted: 1 to 5"):
            chosen_categories(five_tasks, {number: []})
    with pytest.raises(PlanError, match="0 tasks to lose a class; accepted: 1 or more"):
        cross_task_category(five_tasks, seed=0, num_tasks=0)
    with pytest.raises(DataError, match="after task 1, 1 tasks still have a class and 2 are to lose one"):
        cross_task_category(five_tasks, seed=0, after=(1,))
