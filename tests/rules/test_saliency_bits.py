"""Masks: storage against numpy's packing, exact gradients, and T9, weights that must not move at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from palimpsest.errors import ModelError, PlanError
from palimpsest.models.scope import tensor_digest
from palimpsest.rules import saliency_bits as saliency
from palimpsest.rules.saliency_bits import (
    SaliencyMask,
    frozen_values,
    pack,
    put_back,
    restore_masked,
    top_share,
    unpack,
)

KEPT = torch.tensor([True, False, True, False])


@given(st.lists(st.booleans(), max_size=70))
def test_packing_equals_numpy(flags: list[bool]) -> None:
    kept = torch.tensor(flags, dtype=torch.bool)
    bits = pack(kept)
    assert bits.tolist() == np.packbits(np.array(flags, dtype=bool), bitorder="little").tolist()
    assert torch.equal(unpack(bits, kept.shape), kept)


def random_masks(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"matrix": (5, 7), "bias": (3,), "scalar": (), "kernel": (2, 3, 3, 3), "none": (0, 4)}
    return {name: torch.rand(shape, generator=draw) < 0.4 for name, shape in shapes.items()}


def test_mask_shape_share_and_size() -> None:
    kept = random_masks()
    mask = SaliencyMask.of(kept.items())
    assert all(torch.equal(mask.mask(name), tensor) for name, tensor in kept.items())
    num_weights, num_kept = 35 + 3 + 1 + 54, sum(int(tensor.sum()) for tensor in kept.values())
    assert mask.num_kept == num_kept
    assert mask.kept_share == num_kept / num_weights
    assert mask.nbytes == 5 + 1 + 1 + 7
    large = SaliencyMask.of([("large", torch.ones(1000, 8, dtype=torch.bool))])
    assert (large.nbytes, large.kept_share) == (1000, 1.0)


def test_mask_survives_safetensors() -> None:
    kept = random_masks(1)
    restored = SaliencyMask.from_tensors(load(save(SaliencyMask.of(kept.items()).to_tensors())))
    assert set(restored.bits) == set(kept)
    assert all(torch.equal(restored.mask(name), tensor) for name, tensor in kept.items())


class Four(nn.Module):
    """Four weights whose gradient a test may choose; one of them cannot be told from zero by its value."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -0.0, 3.0, 1e-30]))

    def push(self, *gradient: float) -> None:
        self.w.grad = torch.tensor(gradient)


def signs(tensor: Tensor) -> list[float]:
    return torch.copysign(torch.ones_like(tensor), tensor).tolist()


def test_masked_gradients_are_plus_zero_and_the_others_untouched() -> None:
    model, mask = Four(), SaliencyMask.of([("w", KEPT)])
    for outside in (-0.0, math.inf, -math.inf, math.nan, 2.0):
        model.push(-0.0, outside, math.nan, outside)
        mask.apply_(model)
        assert model.w.grad is not None
        first, second, third, fourth = model.w.grad.tolist()
        assert (first, second, fourth) == (0.0, 0.0, 0.0)
        assert math.isnan(third)
        assert signs(model.w.grad)[:2] == [-1.0, 1.0]
        assert signs(model.w.grad)[3] == 1.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("count", "chunk"), [(1, 8), (63, 4), (64, 8), (65, 8), (1000, 7)])
def test_keeping_by_words_is_choosing_by_a_mask(monkeypatch: pytest.MonkeyPatch, dtype, count, chunk) -> None:
    """Bit by bit, however the numbers are cut."""
    monkeypatch.setattr(saliency, "_CHUNK", chunk)
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(count, generator=generator).to(dtype)
    values[::5] = math.nan
    kept = torch.rand(count, generator=generator) > 0.5
    expected = torch.where(kept, values, torch.zeros_like(values))
    saliency.keep_(values, pack(kept))
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    assert torch.equal(values.view(whole), expected.view(whole))


def test_a_gradient_that_is_not_in_one_piece_is_masked_too() -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(3, 2))})
    kept = torch.tensor([[True, False], [False, True], [True, True]])
    model["w"].grad = torch.arange(1.0, 7.0).view(2, 3).t()
    SaliencyMask.of([("w", kept)]).apply_(model)
    assert model["w"].grad.tolist() == [[1.0, 0.0], [0.0, 5.0], [3.0, 6.0]]


def test_a_parameter_that_is_not_covered_is_refused() -> None:
    model, mask = Four(), SaliencyMask.of([("v", KEPT)])
    mask.apply_(model)  # no gradient, nothing to mask
    model.push(1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ModelError, match=r"does not cover parameter 'w'; it covers 1 others, e\.g\. v"):
        mask.apply_(model)


Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_t9_weights_outside_the_mask_stay_bit_identical(name: str) -> None:
    model, alone, mask = Four(), Four(), SaliencyMask.of([("w", KEPT)])
    optimizer, its = OPTIMIZERS[name](model.parameters()), OPTIMIZERS[name](alone.parameters())
    for step in range(6):
        fast = step % 2 == 1
        for each, opt in ((model, optimizer), (alone, its)):
            each.push(1.0, -2.0, 0.5, 1e-3)
            if fast:
                mask.apply_(each)
            before = each.w.detach().clone()
            if each is model and fast:
                with restore_masked(model, mask):
                    opt.step()
                assert tensor_digest(model.w[~KEPT]) == tensor_digest(before[~KEPT])
            else:
                opt.step()
                assert not bool((each.w == before).any()), "the naive port is expected to leak"
        assert torch.equal(model.w[KEPT], alone.w[KEPT])


def test_t9_a_masked_gradient_alone_leaks() -> None:
    """SGD with momentum 0.9: 0.9 of the last step. Adam in its steady state, m = g, v = g^2: 0.9 / sqrt(0.999)."""
    leaked = {}
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        model, mask = Four(), SaliencyMask.of([("w", torch.zeros(4, dtype=torch.bool))])
        with torch.no_grad():
            model.w.zero_()
        settings = {"momentum": 0.9} if name == "sgd" else {}
        optimizer = kind(model.parameters(), lr=1e-3, **settings)
        model.push(1.0, 1.0, 1.0, 1.0)
        optimizer.step()
        if name == "adam":
            state = optimizer.state[model.w]
            state.update(step=torch.tensor(1e6), exp_avg=torch.ones(4), exp_avg_sq=torch.ones(4))
        before = model.w.detach().clone()
        model.push(1.0, 1.0, 1.0, 1.0)
        mask.apply_(model)
        optimizer.step()
        leaked[name] = ((before - model.w.detach()) / 1e-3).tolist()
    assert leaked["sgd"] == pytest.approx([0.9] * 4, rel=1e-4)
    assert leaked["adam"] == pytest.approx([0.9004] * 4, abs=1e-4)


def test_only_what_is_outside_is_stored_and_put_back() -> None:
    model, mask = Four(), SaliencyMask.of([("w", KEPT)])
    values = frozen_values(model, mask)
    assert values["w"].shape == (2,)
    with torch.no_grad():
        model.w.fill_(7.0)
    put_back(model, mask, values)
    assert model.w.tolist() == [7.0, 0.0, 7.0, pytest.approx(1e-30)]
    assert signs(model.w)[1] == -1.0


def test_weights_are_put_back_when_the_step_fails() -> None:
    model, mask = Four(), SaliencyMask.of([("w", KEPT)])

    def fail() -> None:
        with restore_masked(model, mask):
            model.w.data.fill_(7.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.w.tolist() == [7.0, 0.0, 7.0, pytest.approx(1e-30)]


scores = st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 1e-40, math.inf]), min_size=1, max_size=40)


@given(scores, scores, st.floats(0, 1))
def test_top_share_equals_a_stable_sort(first: list[float], second: list[float], share: float) -> None:
    together = [abs(value) for value in first + second]
    ranking = sorted(range(len(together)), key=lambda i: -together[i])
    chosen = set(ranking[: round(share * len(together))])
    mask = top_share({"first": torch.tensor(first), "second": torch.tensor(second)[:, None]}, share)
    found = [*mask.mask("first").tolist(), *mask.mask("second")[:, 0].tolist()]
    assert found == [i in chosen for i in range(len(together))]


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(PlanError, match=r"share of weights to keep: 20; accepted: 0 to 1"):
        top_share({"w": torch.ones(4)}, 20)
