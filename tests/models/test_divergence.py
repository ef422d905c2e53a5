"""KL and cross-entropy: by hand, against torch.distributions, and their laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.distributions import Categorical
from torch.distributions import kl_divergence as independent_kl

from palimpsest.models.divergence import kl_divergence, soft_cross_entropy

numbers = st.floats(-30, 30, width=32)
two_rows = st.integers(2, 6).flatmap(
    lambda width: st.tuples(*[st.lists(numbers, min_size=width, max_size=width) for _ in range(2)])
)


def rows(drawn: tuple[list[float], list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """One position each: reference and model."""
    return torch.tensor([drawn[0]]), torch.tensor([drawn[1]])


def random_logits(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple((3 * torch.randn(5, 17, generator=generator)).to(dtype) for _ in range(2))


def test_by_hand():
    """p_ref = (1/2, 1/2), p = (4/5, 1/5): KL = ½ ln(5/8) + ½ ln(5/2) = ln 1.25; CE = −½ ln(4/25)."""
    reference_SV, logits_SV = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.8, 0.2]]).log()
    assert kl_divergence(reference_SV, logits_SV).item() == pytest.approx(math.log(1.25), rel=1e-6)
    assert soft_cross_entropy(reference_SV, logits_SV).item() == pytest.approx(-0.5 * math.log(0.16), rel=1e-6)


def test_the_reference_comes_first():
    """KL the other way round, of (4/5, 1/5) from (1/2, 1/2), is 0.8 ln 1.6 + 0.2 ln 0.4."""
    reference_SV, logits_SV = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]]).log()
    by_hand = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    assert kl_divergence(reference_SV, logits_SV).item() == pytest.approx(by_hand, rel=1e-6)
    assert by_hand != pytest.approx(math.log(1.25), rel=1e-2)


def test_each_position_by_itself():
    reference_SV, logits_SV = random_logits()
    expected_S = independent_kl(Categorical(logits=reference_SV), Categorical(logits=logits_SV))
    assert torch.allclose(kl_divergence(reference_SV, logits_SV), expected_S, atol=1e-5)


def test_half_precision_is_computed_in_full():
    reference_SV, logits_SV = random_logits(torch.bfloat16)
    expected_S = kl_divergence(reference_SV.float(), logits_SV.float())
    found_S = kl_divergence(reference_SV, logits_SV)
    assert found_S.dtype == torch.float32
    assert torch.equal(found_S, expected_S)
    assert soft_cross_entropy(reference_SV, logits_SV).dtype == torch.float32


def test_impossible_tokens_of_the_reference_count_nothing():
    """0 · log 0 = 0: one token certain, the other impossible; KL is −log p of the certain one."""
    reference_SV, logits_SV = torch.tensor([[0.0, -1e30]]), torch.tensor([[0.25, 0.75]]).log()
    assert kl_divergence(reference_SV, logits_SV).item() == pytest.approx(math.log(4), rel=1e-6)
    assert soft_cross_entropy(reference_SV, logits_SV).item() == pytest.approx(math.log(4), rel=1e-6)


@settings(deadline=None)
@given(two_rows)
def test_never_negative_and_zero_at_the_reference(drawn):
    reference_SV, logits_SV = rows(drawn)
    assert kl_divergence(reference_SV, logits_SV).item() >= -1e-5  # rounding of sums of terms up to 60
    assert kl_divergence(reference_SV, reference_SV).item() == 0.0


@settings(deadline=None)
@given(two_rows, numbers)
def test_logits_may_be_shifted(drawn, shift):
    reference_SV, logits_SV = rows(drawn)
    plain = kl_divergence(reference_SV, logits_SV).item()
    assert kl_divergence(reference_SV + shift, logits_SV - shift).item() == pytest.approx(plain, rel=1e-4, abs=1e-4)


@settings(deadline=None)
@given(two_rows)
def test_cross_entropy_is_kl_plus_the_entropy_of_the_reference(drawn):
    reference_SV, logits_SV = rows(drawn)
    entropy = Categorical(logits=reference_SV).entropy().item()
    expected = kl_divergence(reference_SV, logits_SV).item() + entropy
    assert soft_cross_entropy(reference_SV, logits_SV).item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_both_have_the_gradient_p_minus_p_ref():
    reference_SV, logits_SV = random_logits()
    logits_SV.requires_grad_(True)
    expected_SV = (logits_SV.softmax(-1) - reference_SV.softmax(-1)).detach()
    for measure in (kl_divergence, soft_cross_entropy):
        (gradient_SV,) = torch.autograd.grad(measure(reference_SV, logits_SV).sum(), logits_SV)
        assert torch.allclose(gradient_SV, expected_SV, atol=1e-6)


def test_two_vocabularies_are_refused():
    with pytest.raises(TypeCheckError, match="logits_SV"):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 4))
