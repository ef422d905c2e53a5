"""A verb leaves the caller's process as it was, and gives the same bits whatever the process is set to."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from huggingface_hub.utils import are_progress_bars_disabled
from tests.verbs.test_in_memory import FAST, forget, in_memory
from transformers.utils import logging

import palimpsest as pal
from palimpsest.errors import PlanError
from palimpsest.models.as_it_was import as_it_was

KINDS = (PartialState, AcceleratorState, GradientState)


@pytest.fixture(autouse=True)
def put_back():
    """What a failing verb, or the test itself, has changed."""
    shared = [dict(kind._shared_state) for kind in KINDS]
    yield
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    for kind, held in zip(KINDS, shared, strict=True):
        kind._shared_state.clear()
        kind._shared_state.update(held)


def at_rest() -> None:
    for kind in KINDS:
        kind._shared_state.clear()


def drawn() -> tuple[float, ...]:
    return (*torch.rand(2).tolist(), float(np.random.rand()), random.random())


def seeded(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def learned(clinic):
    return pal.learn(in_memory(clinic / "model"), clinic / "learn.jsonl", plan=FAST)


@pytest.mark.parametrize("verb", [learned, lambda clinic: forget(clinic, in_memory(clinic / "model"))])
def test_the_random_generators_go_on_where_they_were(clinic, verb):
    seeded(1)
    expected = drawn()
    seeded(1)
    verb(clinic)
    assert drawn() == expected


def test_threads_bars_and_dtype_are_as_before(clinic):
    logging.enable_progress_bar()
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    model = in_memory(clinic / "model")
    for call in (
        lambda: learned(clinic),
        lambda: pal.measure(model, clinic / "forget.jsonl", metrics=["ma"]),
        lambda: pal.measure(clinic / "model", clinic / "forget.jsonl", metrics=["ma"], threads=1),
    ):
        call()
        assert torch.get_num_threads() == 2
        assert logging.is_progress_bar_enabled()
        assert not are_progress_bars_disabled()
        assert torch.get_default_dtype() is torch.float64


def test_saving_a_model_leaves_the_bars(clinic, tmp_path):
    logging.enable_progress_bar()
    in_memory(clinic / "model").save(tmp_path / "saved")
    assert logging.is_progress_bar_enabled()


def test_a_refused_verb_leaves_things_too(clinic):
    torch.set_num_threads(2)
    seeded(1)
    expected = drawn()
    seeded(1)
    with pytest.raises(PlanError, match="gate 1"):
        pal.learn(in_memory(clinic / "model"), clinic / "learn.jsonl", plan={"gates": [{"set": "forget"}]})
    assert drawn() == expected
    assert torch.get_num_threads() == 2


@pytest.fixture(scope="module")
def plain(clinic):
    return forget(clinic, in_memory(clinic / "model"))


@contextmanager
def in_bf16():
    with torch.autocast("cpu", torch.bfloat16):
        yield


@contextmanager
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, in_bf16, in_double, lambda: torch.device("meta")]
)
def test_a_verb_works_alike_in_every_mode(clinic, plain, mode):
    model = in_memory(clinic / "model")
    with mode():
        grad = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        again = forget(clinic, model)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")) == grad
    assert again.scores == plain.scores
    new, old = again.model.module.state_dict(), plain.model.module.state_dict()
    assert all(torch.equal(new[name], tensor) for name, tensor in old.items())
    assert not any(tensor.is_inference() for tensor in new.values())


def test_a_module_made_in_inference_mode_is_changed_in_place(clinic):
    with torch.inference_mode():
        model = in_memory(clinic / "model")
        expected = forget(clinic, model).model.module.state_dict()
        forget(clinic, model, in_place=True)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.module.state_dict().items())


def test_a_module_of_ones_own_is_probed_in_inference_mode():
    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(12, 3)

        def forward(self, images):
            return self.head(images.flatten(1))

    with torch.inference_mode():
        assert pal.Model.of(Table(), num_outputs=3, image_size=2).facts.head == "head"


def test_beside_another_accelerator(clinic):
    at_rest()
    plan = GradientAccumulationPlugin(num_steps=4)
    other = Accelerator(mixed_precision="bf16", cpu=True, gradient_accumulation_plugin=plan)
    shared = [kind._shared_state for kind in KINDS]
    learned(clinic)
    assert [kind._shared_state for kind in KINDS] == shared
    assert all(kind._shared_state is held for kind, held in zip(KINDS, shared, strict=True))
    assert other.mixed_precision == "bf16"
    assert other.gradient_state.num_steps == 4
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"


def test_an_accelerator_after_a_verb(clinic):
    at_rest()
    learned(clinic)
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"


def test_an_accelerator_is_used_in_a_callback(clinic):
    at_rest()
    other = Accelerator(mixed_precision="bf16", cpu=True)
    seen = []

    def tell(*_: object) -> None:
        seen.append((other.mixed_precision, PartialState._shared_state != {}))

    pal.learn(in_memory(clinic / "model"), clinic / "learn.jsonl", plan=FAST, progress=tell)
    assert set(seen) == {("bf16", True)}


def test_a_verb_in_a_callback_of_a_verb_does_not_end_it(clinic):
    at_rest()
    plain = learned(clinic)
    model, measured = in_memory(clinic / "model"), []

    def tell(stage: str, *_: object) -> None:
        if stage == "training" and not measured:
            measured.append(pal.measure(model, clinic / "forget.jsonl", metrics=["ma"]))

    seeded(3)
    expected = drawn()
    seeded(3)
    again = pal.learn(model, clinic / "learn.jsonl", plan=FAST, progress=tell)
    assert drawn() == expected
    assert measured
    assert again.scores == plain.scores


def test_the_last_to_leave_puts_things_back():
    seeded(1)
    expected = drawn()
    seeded(1)
    first, second = as_it_was(), as_it_was()
    first.__enter__()
    second.__enter__()
    seeded(2)
    first.__exit__(None, None, None)  # as two threads may
    left = torch.initial_seed()
    second.__exit__(None, None, None)
    assert left == 2
    assert drawn() == expected


@pytest.mark.long
def test_what_was_not_imported_before_is_as_it_is_imported(clinic):
    program = f"""
import random, sys, palimpsest as pal
before = random.getstate()
assert "torch" not in sys.modules
pal.learn({str(clinic / "model")!r}, {str(clinic / "learn.jsonl")!r}, plan={FAST!r})
import torch
from transformers.utils import logging
print(torch.initial_seed() < 2**32, random.getstate() == before, logging.is_progress_bar_enabled())
"""
    said = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert said.stdout.splitlines()[-1:] == ["False True True"], said.stderr
