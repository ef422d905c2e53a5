"""In-context unlearning: what stands in the prefix, and what does not fit."""

from __future__ import annotations

import pytest
from tests.contract.test_guards import rows

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.in_context import InContext, InContextConfig, alternating
from palimpsest.models.parts.swapped import with_answers_of_others


def test_wrong_and_right_take_turns_as_far_as_there_is_room():
    wrong, right = [[1, 1], [2, 2]], [[3], [4]]
    assert alternating(wrong, right, most=9, room=99) == [1, 1, 3, 2, 2, 4]
    assert alternating(wrong, right, most=2, room=99) == [1, 1, 3]
    assert alternating(wrong, right, most=9, room=2) == [1, 1]
    assert alternating(wrong, right, most=9, room=1) == [3]


def test_a_forgotten_question_is_answered_by_another_row():
    forget, retain = rows("f", 2, 40, 1), rows("r", 3, 50, 2)
    swapped = with_answers_of_others(forget, retain)
    assert swapped["f0"].tokens == (*forget["f0"].tokens[:5], *retain["r0"].tokens[5:])
    assert swapped["f0"].scored == forget["f0"].scored


def test_the_prefix_holds_questions_to_forget_and_never_their_answers(tiny_llama):
    sets = {"forget": rows("f", 2, 40, 1), "retain": rows("r", 3, 50, 2)}
    method = InContext(InContextConfig(room=1.0))
    (part,) = method.parts(tiny_llama, sets, 0)
    written = " ".join(map(str, method._prefix(tiny_llama, sets)))
    assert part.config.length == len(written.split()) == 44
    for example_id in sets["forget"].ids:
        tokens = sets["forget"][example_id].tokens
        assert " ".join(map(str, tokens[:5])) in written
        assert " ".join(map(str, tokens[5:])) not in written


def test_without_room_it_is_refused(tiny_llama):
    sets = {"forget": rows("f", 2, 40, 1), "retain": rows("r", 3, 50, 2)}
    with pytest.raises(PlanError, match="no example fits before the longest row .11 tokens.: 53 positions are left"):
        InContext(InContextConfig(room=0.1)).parts(tiny_llama, sets, 0)
    with pytest.raises(PlanError, match=r"in_context\.room = 0: .*greater than 0"):
        methods.configure("in_context", {"room": 0})
