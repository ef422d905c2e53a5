"""Every causal LM of transformers, tiny and random: values by brute force, and what is saved is what was trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.hardening.architectures import ARCHITECTURES, tiny
from tests.hardening.tiny import fitted, id_rows, literal_values, scores_of

from palimpsest.models.causal import check_causal
from palimpsest.models.load import load
from palimpsest.models.scope import Scope, apply_scope, leave_scope
from palimpsest.models.unread import leave_out_unread

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the library, about its own classes
    pytest.mark.parametrize("model_type", sorted(ARCHITECTURES)),
]
ROWS = id_rows((4, 11, 8))
STEP = 0.02


def test_values_equal_brute_force_at_any_batch_size(model_type: str) -> None:
    model = tiny(model_type)
    check_causal(model, model_type)
    fitted(model, ROWS, steps=3)
    literal = literal_values(model, ROWS)
    for batch_size in (1, 32):
        assert scores_of(model, ROWS, batch_size=batch_size) == pytest.approx(literal, abs=1e-6)


@pytest.mark.parametrize("kind", ["all", "lora"])
def test_a_changed_model_is_saved_whole(model_type: str, kind: str, tmp_path: Path) -> None:
    scope = Scope.model_validate({"kind": kind, "rank": 2})
    before = tiny(model_type)
    model = apply_scope(copy.deepcopy(before), scope)
    batch = ROWS.batch(ROWS.ids[:1])
    leave_out_unread(model, [batch])
    _step(model)
    trained = _said(model)
    assert not torch.allclose(trained, _said(before), atol=1e-3)
    leave_scope(model, scope).eval().save_pretrained(tmp_path)
    found = _said(load(tmp_path, tokenizer_needed=False).model)
    torch.testing.assert_close(found, trained, atol=1e-4 * float(trained.abs().max()), rtol=0)


def _step(model: Any) -> None:
    """Move everything that may move, a little."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.empty(parameter.shape).normal_(0, STEP, generator=draw))


def _said(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return ROWS.batch(ROWS.ids).predict(model.eval()).logits_SV
