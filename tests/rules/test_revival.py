"""Revival: counted by hand, at every so many steps, and the same after a step that was taken back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palimpsest.contract import Phase
from palimpsest.models.parts import attach
from palimpsest.models.parts.codebook import Codebook, CodebookConfig
from palimpsest.rules.revival import Revival

PHASE = Phase("joint", ("learn",))


@pytest.fixture
def model() -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2))
    return attach(made, [Codebook(CodebookConfig(at="0", width=2, code_width=4, codes=3, chosen=1))])


def step(rule: Revival, model: nn.Module, ids: list[int]) -> None:
    """One step in which these codes were chosen for vectors of 8."""
    book = model.palimpsest_parts[0]
    rule.reopen(model)
    book.lately.append((torch.tensor(ids)[:, None], torch.full((len(ids), 4), 8.0)))
    with rule.around(model, PHASE, {"learn": ("a",)}):
        pass


def test_every_two_steps_what_was_not_chosen_begins_again(model):
    book, rule = model.palimpsest_parts[0], Revival(every=2)
    rule.prepare(model, {})
    codes = book.codes.detach().clone()
    step(rule, model, [0, 0])
    assert (book.usage.tolist(), rule.diagnostics(0.1)) == ([2, 0, 0], {"revived": 0.0})
    step(rule, model, [1])
    assert rule.diagnostics(0.1) == {"revived": 1.0}
    assert torch.equal(book.codes[:2], codes[:2])
    assert book.codes[2].tolist() == [8.0] * 4
    assert book.usage.tolist() == [0, 0, 0]


def test_state_and_buffers_bring_back_a_step(model):
    book, rule = model.palimpsest_parts[0], Revival(every=2)
    rule.prepare(model, {})
    step(rule, model, [0])
    kept, buffers = rule.state(), {n: t.clone() for n, t in book.state_dict().items()}
    step(rule, model, [0])
    first = {n: t.clone() for n, t in book.state_dict().items()}
    again = Revival(every=2)
    again.prepare(model, {})
    again.load_state(kept)
    book.load_state_dict(buffers)
    step(again, model, [0])
    assert all(torch.equal(t, first[n]) for n, t in book.state_dict().items())
