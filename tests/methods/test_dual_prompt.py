"""DualPrompt: the pull on the key of the task alone, and where its prefixes go in models of few blocks."""

from __future__ import annotations

import pytest
import torch
from tests.methods.prompt_world import built, fresh, task
from tests.models.small_encoders import encoder, with_prompts

from palimpsest.contract import Phase
from palimpsest.models.modes import asked
from palimpsest.models.parts import off


def test_the_key_of_the_task_is_pulled():
    examples = task("vit", (0, 1))
    method, model = built(fresh("vit"), "dual_prompt", examples)
    model.train()
    batch = examples.batch(examples.ids)
    terms = method.loss(model, {"learn": batch}, Phase("joint", ("learn",)))
    with asked(model), off(model):
        query = model.vit(**batch.inputs()).last_hidden_state[:, 0]
    _, own = model.palimpsest_parts
    pulled = sum(float(torch.cosine_similarity(row, own.key_D.detach(), dim=0)) for row in query)
    assert abs(terms["pull"].total.item() - pulled) < 1e-4
    assert terms["pull"].weight == -0.1


@pytest.mark.parametrize(
    ("blocks", "options", "expected"),
    [
        (6, {}, [(0, 1), (2, 3, 4)]),
        (4, {}, [(0, 1), (2, 3)]),
        (2, {}, [(0,), (1,)]),
        (1, {}, [(0,)]),
        (4, {"prefix": "own"}, [(2, 3)]),
    ],
)
def test_where_they_go(blocks, options, expected):
    made = with_prompts(encoder("vit", blocks), "dual_prompt", options)
    assert [part.places for part in made] == [tuple(f"vit.layers.{n}.attention" for n in places) for places in expected]
