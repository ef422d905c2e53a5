"""A soft prompt: spelled out, how many positions it takes, what a model that can only be asked is given."""

from __future__ import annotations

import pytest
import torch
from tests.models.black_boxes import WORDS, stand, tiny_lm

from palimpsest.models.black_box_file import as_config, facts_from
from palimpsest.models.parts import attach, off
from palimpsest.models.parts.soft_prompt import SoftPrompt, SoftPromptConfig
from palimpsest.models.soft_prompting import behind_prompts
from palimpsest.models.text_config import most_tokens

TOKENS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def prompt(**more) -> SoftPrompt:
    return SoftPrompt(SoftPromptConfig(length=2, width=8, scale=0.5, seed=3, **more))


def spelled_out(model, part) -> torch.Tensor:
    """Each row alone, without padding."""
    embed, found = model.get_input_embeddings(), torch.zeros(2, 5, WORDS)
    with torch.no_grad():
        for row, length in enumerate((5, 3)):
            text = embed(TOKENS[row, :length])
            whole = torch.cat([0.5 * part.prompt_D.reshape(2, 8), text])
            found[row, :length] = model(inputs_embeds=whole[None]).logits[0, 2:]
    return found


def test_it_stands_before_every_text_and_its_positions_are_not_seen():
    model, part = tiny_lm(), prompt()
    wanted = spelled_out(model, part)
    attach(model, [part])
    with torch.no_grad():
        found = model(input_ids=TOKENS, attention_mask=MASK).logits
    assert torch.allclose(found[0], wanted[0], atol=1e-5)
    assert torch.allclose(found[1, :3], wanted[1, :3], atol=1e-5)
    assert most_tokens(model) == 62
    with off(model):
        assert most_tokens(model) == 64


def test_what_a_server_does_with_it_is_the_same():
    model, part = tiny_lm(), prompt()
    wanted = spelled_out(model, part)
    with torch.no_grad():
        given = {"input_ids": TOKENS, "attention_mask": MASK}
        found = behind_prompts(model, given, part.before(2))
    assert torch.allclose(found[MASK.bool()], wanted[MASK.bool()], atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 2, 7), (1, 2, 8), (2, 8), (2, 60, 8)])
def test_a_server_refuses_what_is_no_soft_prompt_of_its(shape):
    with pytest.raises(ValueError, match="are taken"):
        behind_prompts(tiny_lm(), {"input_ids": TOKENS, "attention_mask": MASK}, torch.zeros(shape))


def test_a_model_that_can_only_be_asked_is_given_it_with_the_tokens():
    """Two of them stand one before the other, the newest first."""
    from palimpsest.models.asked_model import AskedModel, BlackBoxConfig
    from palimpsest.models.questions import Questions

    seen, model, box = [], tiny_lm(), stand("causal_lm")
    facts = facts_from({"kind": "causal_lm", "url": "http://127.0.0.1:1/", **box.fields}, "box")
    questions = Questions(facts)

    class Local:
        def ask(self, rows, key):
            seen.extend(rows)
            return facts.box.read(box.answer(model, facts.box.content(rows)), rows, facts)

    questions._asks = Local()
    asked = AskedModel(BlackBoxConfig(**facts.box.config(facts), **as_config(facts)), questions)
    older, newer = prompt(), SoftPrompt(SoftPromptConfig(length=1, width=8, scale=1.0, seed=9))
    attach(asked, [older])
    wanted = spelled_out(model, older).log_softmax(-1)
    with torch.no_grad():
        found = asked(input_ids=TOKENS, attention_mask=MASK).logits.log_softmax(-1)
    for row, length in enumerate((5, 3)):
        there = TOKENS[row, 1:length, None]
        logp = found[row, : length - 1].gather(1, there), wanted[row, : length - 1].gather(1, there)
        assert torch.allclose(*logp, atol=1e-4)
        assert torch.equal(found[row, :length].argmax(-1), wanted[row, :length].argmax(-1))
    assert [text.tokens for text in seen] == [(1, 2, 3, 4, 5), (6, 7, 8)]
    attach(asked, [newer])
    seen.clear()
    with torch.no_grad():
        asked(input_ids=TOKENS, attention_mask=MASK)
    assert {text.prompt_PD.shape for text in seen} == {(3, 8)}
