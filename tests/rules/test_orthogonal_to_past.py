"""The projection against an explicit Q of the whole vector, its limits, and two requests in a row."""

from __future__ import annotations

import pytest
import torch
from tests.rules.asked_by_hand import Weights
from tests.verbs.conftest import clinic

import palimpsest as pal
from palimpsest import rules
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.rules.orthogonal_to_past import basis_of, dot, without_past

__all__ = ["clinic"]

SHAPES = {"a": (3, 4), "b": (5,)}


def drawn(seed: int, names: str = "ab") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SHAPES[name], generator=generator) for name in names}


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat(
        [tensors[name].flatten() if name in tensors else torch.zeros(SHAPES[name]).flatten() for name in "ab"]
    )


def test_it_is_g_minus_q_q_transposed_g():
    past, gradient = [drawn(1), drawn(2, "a"), drawn(3)], drawn(4)
    q, _ = torch.linalg.qr(torch.stack([flat(one) for one in past], 1).double())
    g = flat(gradient).double()
    found = flat(without_past(gradient, basis_of(past)))
    torch.testing.assert_close(found.double(), g - q @ (q.T @ g), rtol=1e-5, atol=1e-6)


def test_the_basis_is_orthonormal_and_what_says_the_same_counts_once():
    one = drawn(1)
    same = [{name: factor * tensor for name, tensor in one.items()} for factor in (-3, 0)]
    basis = basis_of([one, *same, drawn(2)])
    assert len(basis) == 2
    products = [float(dot(p, q)) for p in basis for q in basis]
    assert products == pytest.approx([1, 0, 0, 1], abs=1e-6)


def test_past_gradients_leave_nothing_of_themselves_and_others_alone():
    one = drawn(1)
    assert float(flat(without_past(one, basis_of([one]))).norm()) < 1e-5
    away = {"a": torch.zeros(SHAPES["a"]), "b": drawn(2)["b"]}
    assert torch.equal(flat(without_past(away, basis_of([drawn(1, "a")]))), flat(away))
    assert torch.equal(flat(without_past(one, [])), flat(one))


@pytest.mark.parametrize(("phase", "left"), [(("forget", "retain"), [0.0, 4.0]), (("retain",), [3.0, 4.0])])
def test_steps_that_only_keep_are_left_alone(phase, left):
    model, rule = Weights(0.0, 0.0), rules.rule_of({"kind": "orthogonal_to_past"})
    rule._basis, rule._share = basis_of([{"w": torch.tensor([2.0, 0.0])}]), 0.0
    model.w.grad = torch.tensor([3.0, 4.0])
    rule.transform(model, Phase("joint", phase))
    assert model.w.grad.tolist() == left
    assert rule.diagnostics(0.1)["past_share"] == pytest.approx(9 / 25 if left[0] == 0 else 0.0)


def test_requests_in_a_row(clinic, tmp_path):
    """The first one is recorded only when it is asked for; the second one keeps out of its way, or is refused."""
    training = {"learning_rate": 1e-3, "max_steps": 2, "batch_size": 4}
    plan = {"training": training, "measuring": {"metrics": ["ma"]}}
    rows = [row for row in (clinic / "forget.jsonl").read_text().splitlines(keepends=True) if row.strip()]
    for name, part in (("one", rows[:2]), ("two", rows[2:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    how = {"method": "gradient_ascent"}
    recorded = {**plan, "record": ["past_gradients"]}
    pal.unlearn(clinic / "model", tmp_path / "one.jsonl", output=tmp_path / "v1", plan=recorded, **how)
    kept = tmp_path / "v1" / "companion" / "past_gradients"
    assert len(list(kept.glob("*.safetensors"))) == 2
    away = {**plan, "rules": [{"kind": "orthogonal_to_past"}]}
    pal.unlearn(tmp_path / "v1", tmp_path / "two.jsonl", output=tmp_path / "v2", plan=away, **how)
    assert "past_share" in (tmp_path / "v2" / "metrics.jsonl").read_text()
    assert len(list((tmp_path / "v2" / "companion" / "past_gradients").glob("*.safetensors"))) == 2
    with pytest.raises(PlanError, match="no gradients of earlier requests lie beside"):
        pal.unlearn(clinic / "model", tmp_path / "two.jsonl", output=tmp_path / "no", plan=away, **how)
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / "no.partial").exists()
