"""KGA. By hand: the model says (0.5, 0.5), its helper (0.8, 0.2): KL = 0.5·log 0.625 + 0.5·log 2.5 = 0.2231436."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contract.test_methods import loss_of, random_set
from tests.methods import spelled_out

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import Predictions
from palimpsest.errors import PlanError
from palimpsest.methods.kga import KGA, KGAConfig, alignment_loss, mean_gap, row_gaps, token_cost
from palimpsest.models.reference import FrozenCopy
from palimpsest.models.reinforced import taught_copy
from palimpsest.models.scope import Scope, apply_scope, state_digests

PHASE = Phase("joint", ("forget", "retain"))


def method_at(wanted: float, helper: torch.nn.Module, **options) -> KGA:
    """One whose helpers need not be made."""
    method = KGA(KGAConfig(**options), FrozenCopy(spelled_out.table(3)))
    method.wanted, method.knows_forget = wanted, helper
    return method


def test_equation_by_hand(half, skewed, two_rows):
    with torch.no_grad():
        gap_B = row_gaps(two_rows.predict(half), two_rows.predict(skewed).logits_SV)
    assert gap_B.tolist() == pytest.approx([0.2231436, 0.2231436], rel=1e-5)
    assert alignment_loss(gap_B, 0.1).item() == pytest.approx(2 * 0.1231436, rel=1e-5)
    assert alignment_loss(gap_B, 0.3).item() == pytest.approx(2 * 0.0768564, rel=1e-5)


def test_terms_equal_python_loops():
    """Rows of several lengths with gaps between label tokens: a row's gap is the mean over its own."""
    model, helper = spelled_out.table(1), spelled_out.table(2)
    batches = {"forget": spelled_out.batch(), "retain": spelled_out.batch(spelled_out.OTHER)}
    terms = method_at(0.7, helper, alpha=3.0).loss(model, batches, PHASE)
    of_row: dict[int, list[float]] = {}
    for ours, theirs in zip(
        spelled_out.places(model, spelled_out.ROWS), spelled_out.places(helper, spelled_out.ROWS), strict=True
    ):
        of_row.setdefault(ours.row, []).append(sum(p * math.log(p / q) for p, q in zip(ours.p, theirs.p, strict=True)))
    gap = sum(abs(sum(values) / len(values) - 0.7) for values in of_row.values())
    kept = sum(
        sum(q * math.log(q / p) for p, q in zip(ours.p, theirs.p, strict=True))
        for ours, theirs in zip(
            spelled_out.places(model, spelled_out.OTHER),
            spelled_out.places(spelled_out.table(3), spelled_out.OTHER),
            strict=True,
        )
    )
    assert terms["gap"].total.item() == pytest.approx(gap, rel=1e-5)
    assert (terms["gap"].of, terms["gap"].per, terms["gap"].weight) == ("forget", "example", 1.0)
    assert terms["retain"].total.item() == pytest.approx(kept, rel=1e-4)
    assert (terms["retain"].of, terms["retain"].weight) == ("retain", 3.0)


def test_beside_itself_there_is_no_gap_and_nothing_is_lost():
    """The helper and the model before are the model: each row is short by what is wanted, and retain costs nothing."""
    batches = {"forget": spelled_out.batch(), "retain": spelled_out.batch(spelled_out.OTHER)}
    terms = method_at(0.7, spelled_out.table(3)).loss(spelled_out.table(3), batches, PHASE)
    assert terms["gap"].total.item() == pytest.approx(3 * 0.7, rel=1e-5)
    assert terms["retain"].total.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("wanted", "way"), [(0.0, -1), (9.0, +1)])
def test_a_row_is_pulled_to_the_gap_from_either_side(wanted, way):
    """Beyond the gap descent brings model and helper together, short of it apart; by finite differences."""
    logits_SV = torch.tensor([[1.0, 0.2, -0.3]], requires_grad=True)
    helper_SV, one = torch.tensor([[0.0, 2.0, 0.5]]), torch.tensor([0])
    alignment_loss(row_gaps(Predictions(logits_SV, one, one, 1), helper_SV), wanted).backward()

    def gap_at(step: float) -> float:
        moved = (logits_SV - step * logits_SV.grad).detach()
        return row_gaps(Predictions(moved, one, one, 1), helper_SV).item()

    assert way * (gap_at(1e-3) - gap_at(0.0)) > 0
    assert (gap_at(1e-3) - gap_at(-1e-3)) / 2e-3 == pytest.approx(way * logits_SV.grad.square().sum().item(), rel=1e-2)


def test_the_helpers_know_their_rows_and_leave_no_trace(tiny_llama):
    """The model and what is drawn next are as they were, made again they are the same to the bit, and learn enough."""
    sets = {name: random_set(name, 3, seed) for name, seed in (("forget", 1), ("retain", 2), ("holdout", 3))}
    before = state_digests(tiny_llama)
    torch.manual_seed(7)
    expected = torch.rand(2)
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        method = KGA(KGAConfig(passes=4, helper_rate=1e-2), FrozenCopy(tiny_llama))
        method.prepare(tiny_llama, sets)
        found.append((method.wanted, state_digests(method.knows_forget)))
        assert torch.equal(torch.rand(2), expected)
    assert found[0] == found[1]
    assert state_digests(tiny_llama) == before
    assert all(p.requires_grad for p in tiny_llama.parameters())
    assert not any(p.requires_grad for p in method.knows_forget.parameters())
    assert loss_of(method.knows_forget, sets["forget"]) < loss_of(tiny_llama, sets["forget"]) - 0.1
    assert loss_of(method.knows_forget, sets["holdout"]) > loss_of(tiny_llama, sets["holdout"]) - 0.1


def test_a_model_that_knows_nothing_of_forget_has_little_to_lose(tiny_llama):
    """The helper stops after a pass: new rows cost it no more than the forget rows cost the model."""
    rows = random_set("n", 4, 5)
    how = {"rank": 2, "rate": 1e-2, "rows": 2, "seed": 0}
    _, passes = taught_copy(tiny_llama, rows, passes=9, enough=token_cost(tiny_llama, rows) + 1, **how)
    assert passes == 1
    helper, passes = taught_copy(tiny_llama, rows, passes=3, enough=0.0, **how)
    assert passes == 3
    assert mean_gap(tiny_llama, helper, rows) > 0
    assert mean_gap(tiny_llama, tiny_llama, rows) == 0


def test_an_adapter_is_folded_into_a_helper(tiny_llama):
    """Under scope lora the copy is of what the model says, its adapter included."""
    rows = random_set("n", 3, 5)
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    before = state_digests(model)
    helper, _ = taught_copy(model, rows, rank=2, passes=1, rate=1e-12, rows=2, seed=0)
    assert mean_gap(model, helper, rows) == pytest.approx(0, abs=1e-5)
    assert state_digests(model) == before


def test_no_passes_are_refused():
    with pytest.raises(PlanError, match=r"kga\.passes = 0.*greater than or equal to 1"):
        methods.configure("kga", {"passes": 0})
