"""By hand on the skewed table; the whole trajectory is compared with UG-CLU's in test_ug_clu.py (T11)."""

import math

import pytest

from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet
from palimpsest.methods.sfr_on import SFROn, SFROnConfig

from .conftest import sequence

LOSS_A, LOSS_B = -math.log(0.8), -math.log(0.2)


@pytest.fixture
def sets() -> dict[str, TextSet]:
    return {
        "forget": TextSet([sequence("f", 0, 1)], pad_id=0),
        "retain": TextSet([sequence("r", 1, 0), sequence("s", 1, 0)], pad_id=0),
    }


def test_the_ascent_is_the_ancestors_weighted_mean(skewed, two_rows):
    term = SFROn(SFROnConfig()).loss(skewed, {"forget": two_rows}, Phase("fast", ("forget",), scale=0.5))["forget"]
    a, b = LOSS_A**-0.5, LOSS_B**-0.5
    assert (term.total / term.count).item() == pytest.approx((a * LOSS_A + b * LOSS_B) / (a + b), rel=1e-6)
    assert term.weight == -25.0 * 0.5


def test_the_recipe_ascends_every_fifth_step_with_its_own_clip(skewed, sets):
    method = SFROn(SFROnConfig())
    method.prepare(skewed, sets)
    plan = [method.phases(step, 1500) for step in range(1500)]
    fast = [phases[0] for phases in plan if phases[0].name == "fast"]
    assert len(fast) == 300
    assert {phase.max_grad_norm for phase in fast} == {7.0}
    assert all(phases[-1] == Phase("repair", ("retain",)) for phases in plan)
    assert fast[0].scale == 1.0
    assert fast[150].scale == pytest.approx(0.5)


def test_the_mask_keeps_what_only_the_forget_set_needs(skewed, sets):
    """Forget looks at row 0 of the table, retain at row 1."""
    method = SFROn(SFROnConfig(mask_batch=1))
    method.prepare(skewed, sets)
    assert method.mask.mask("table").tolist() == [[True, True], [False, False]]


def test_gamma_zero_builds_no_mask(skewed, sets):
    method = SFROn(SFROnConfig(gamma=0.0))
    method.prepare(skewed, sets)
    assert method.mask is None
