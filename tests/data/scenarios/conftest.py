from __future__ import annotations

import pytest

from palimpsest.data.streams.tasks import Task, split_by_class


@pytest.fixture
def five_tasks() -> tuple[Task, ...]:
    """Ten classes of six examples, two classes in a task, as CIFAR-10 is split."""
    return split_by_class({f"image-{n}": n % 10 for n in range(60)}, 2)
