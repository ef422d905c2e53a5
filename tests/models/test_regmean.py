"""Layers fused from Gram matrices: against least squares on the inputs themselves."""

import pytest
import torch

from palimpsest.models.regmean import factored, fused, gram


def requests(seed=0, count=3, inputs=40, width=6, out=4):
    torch.manual_seed(seed)
    inputs_by_request = [torch.randn(inputs, width) * (1 + i) for i in range(count)]
    return inputs_by_request, [torch.randn(width, out) for _ in range(count)]


def test_fusion_is_least_squares_over_all_requests():
    inputs, maps = requests()
    stacked = torch.cat(inputs).double()
    wanted = torch.cat([x @ w for x, w in zip(inputs, maps, strict=True)]).double()
    by_brute_force = torch.linalg.lstsq(stacked, wanted).solution
    found = fused([gram(x) for x in inputs], maps, ridge=1e-12)
    assert torch.allclose(found.double(), by_brute_force, atol=1e-5)


def test_the_ridge_is_that_of_ridge_regression():
    inputs, maps = requests(seed=1)
    ridge = 0.05
    size = sum(gram(x).diagonal() for x in inputs).mean()
    extra = (ridge * size).sqrt() * torch.eye(6, dtype=torch.float64)
    stacked = torch.cat([*[x.double() for x in inputs], extra])
    wanted = torch.cat([*[(x @ w).double() for x, w in zip(inputs, maps, strict=True)], torch.zeros(6, 4)])
    by_brute_force = torch.linalg.lstsq(stacked, wanted.double()).solution
    found = fused([gram(x) for x in inputs], maps, ridge=ridge)
    assert torch.allclose(found.double(), by_brute_force, atol=1e-5)


def test_requests_in_separate_directions_each_keep_their_own_map():
    first, second = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    maps = [torch.tensor([[1.0], [5.0]]), torch.tensor([[7.0], [2.0]])]
    found = fused([gram(first), gram(second)], maps, ridge=1e-9)
    assert torch.allclose(found, torch.tensor([[1.0], [2.0]]), atol=1e-5)


def test_directions_that_no_request_had_go_to_zero():
    found = fused([gram(torch.tensor([[1.0, 0.0]]))], [torch.ones(2, 1)], ridge=1e-3)
    assert found[1].item() == 0
    assert found[0].item() == pytest.approx(1, abs=1e-3)


def test_one_request_is_itself_up_to_the_ridge():
    inputs, maps = requests(count=1)
    assert torch.allclose(fused([gram(inputs[0])], maps, ridge=1e-10), maps[0], atol=1e-4)


def test_the_product_of_a_low_rank_map_is_found_again():
    torch.manual_seed(0)
    thin = torch.randn(6, 2) @ torch.randn(2, 5)
    down, up = factored(thin, 3)
    assert down.shape == (6, 3)
    assert up.shape == (3, 5)
    assert torch.allclose(down @ up, thin, atol=1e-5)


def test_no_product_of_that_rank_is_nearer():
    torch.manual_seed(0)
    wide = torch.randn(6, 5)
    down, up = factored(wide, 2)
    left = torch.linalg.svdvals(wide)[2:].square().sum().sqrt()
    assert torch.linalg.norm(wide - down @ up).item() == pytest.approx(left.item(), abs=1e-5)
    more, again = factored(wide, 9)  # of a rank that it has not
    assert torch.allclose(more @ again, wide, atol=1e-5)
