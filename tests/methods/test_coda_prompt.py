"""CODA-Prompt: its penalty by hand, and only where it has a factor."""

from __future__ import annotations

from tests.methods.prompt_world import OPTIONS, built, fresh, task

from palimpsest import methods
from palimpsest.contract import Phase

JOINT = Phase("joint", ("learn",))


def test_the_penalty_is_a_mean_over_rows_that_no_cut_changes():
    examples = task("vit", (0, 1))
    method, model = built(fresh("vit"), "coda_prompt", examples)
    (part,) = model.palimpsest_parts
    part.key_LMD.data *= 2  # of three orthogonal vectors of length 2: mean (4 − 1)² on the diagonal, 0 beside it
    term = method.loss(model, {"learn": examples.batch(examples.ids)}, JOINT)["orthogonality"]
    assert abs(term.total.item() / len(examples) - (3 * 9 / 9) / 3) < 1e-5
    assert (term.weight, term.per) == (0.1, "example")


def test_without_a_factor_there_is_none():
    examples = task("bert", (0, 1))
    _, model = built(fresh("bert"), "coda_prompt", examples)
    plain = methods.load("coda_prompt")(
        methods.configure("coda_prompt", {**OPTIONS["coda_prompt"], "orthogonality": 0})
    )
    plain.prepare(model, {"learn": examples})
    assert set(plain.loss(model, {"learn": examples.batch(examples.ids)}, JOINT)) == {"learn"}
