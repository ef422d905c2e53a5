"""Language models of every kind: the right value or one line. Named after the cases of issue 16 they stand for.

Every model is tiny and random, and made here.
"""

from __future__ import annotations

import copy
import json
import types
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as T
from tests.hardening.tiny import (
    SMALL,
    byte_tokenizer,
    fitted,
    id_rows,
    literal_values,
    measured,
    new_model,
    rows_file,
    saved,
    scores_of,
)
from tokenizers import processors

import palimpsest as pal
from palimpsest.data.encode.batch import TokenSequence, collate
from palimpsest.data.encode.text import encode
from palimpsest.errors import ModelError
from palimpsest.models.adapter_base import base_of
from palimpsest.models.adapters import quiet_about_ties
from palimpsest.models.causal import check_causal
from palimpsest.models.load import load
from palimpsest.models.scope import Scope, apply_scope, state_digests
from palimpsest.models.sources import check_folder, is_image_model, source_digest
from palimpsest.models.unread import leave_out_unread
from palimpsest.records import Chat, Completion, Example, Message, Text

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def llama() -> Any:
    """A Llama that has gone over the texts a little, and its tokenizer."""
    tokenizer = byte_tokenizer()
    return fitted(new_model(T.LlamaConfig(vocab_size=len(tokenizer), **SMALL)), id_rows()), tokenizer


class TestCase01:
    """Padding is always an id that the model has a row for."""

    def test_a_pad_token_that_the_model_lacks_changes_no_value(self, llama: Any, tmp_path: Path) -> None:
        model, tokenizer = llama
        plain = measured(saved(model, tokenizer, tmp_path / "plain"), "ma,es,prob")
        longer = byte_tokenizer()
        longer.add_special_tokens({"pad_token": "[PAD]"})
        assert longer.pad_token_id >= model.config.vocab_size
        assert measured(saved(model, longer, tmp_path / "longer"), "ma,es,prob") == pytest.approx(plain)

    @pytest.mark.parametrize(("vocab_size", "expected"), [(400, 300), (300, 0), (None, 300)])
    def test_pad_then_eos_then_zero(self, vocab_size: int | None, expected: int) -> None:
        class Padded(T.PreTrainedTokenizerFast):  # type: ignore[misc]
            pad_token_id, eos_token_id = 300, 0

        tokenizer = Padded(tokenizer_object=byte_tokenizer().backend_tokenizer, eos_token="<eos>")
        assert encode([Example("a", Text("ab"))], tokenizer, max_length=None, vocab_size=vocab_size).pad_id == expected

    def test_a_start_token_that_the_model_lacks_starts_no_text(self, llama: Any) -> None:
        from palimpsest.derived.own_words import _first_token
        from palimpsest.models.load import Loaded

        model, _ = llama
        longer = byte_tokenizer()
        longer.add_special_tokens({"bos_token": "[BOS]"})
        assert _first_token(Loaded(model, longer, "x")) == longer.eos_token_id < model.config.vocab_size


def _lfm2() -> Any:
    return T.Lfm2Config(vocab_size=300, **SMALL, layer_types=["conv", "full_attention"])


def _qwen3_next() -> Any:
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    more = {"linear_value_head_dim": 8, "shared_expert_intermediate_size": 16, "head_dim": 8}
    return T.Qwen3NextConfig(vocab_size=300, **SMALL | {"num_hidden_layers": 4}, **heads, **experts, **more)


def _mamba() -> Any:
    return T.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=8, eos_token_id=0)


def _phi3(border: int = 8) -> Any:
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0, 8, 16, 32]}
    return T.Phi3Config(
        vocab_size=300,
        **SMALL | {"max_position_embeddings": 256},
        original_max_position_embeddings=border,
        rope_parameters=rope | {"original_max_position_embeddings": border},
    )


class TestCase02And04:
    """What a model keeps between tokens, and positions that depend on the longest row."""

    @pytest.mark.parametrize("config", [_lfm2, _qwen3_next, _mamba, _phi3])
    def test_values_are_those_of_one_generate_per_prefix(self, config: Any) -> None:
        rows = id_rows()
        model = fitted(new_model(config()), rows)
        literal = literal_values(model, rows)
        assert len(set(literal)) > 4  # neither nothing known nor all
        for batch_size in (1, 32):
            assert scores_of(model, rows, batch_size=batch_size) == pytest.approx(literal, abs=TOLERANCE)

    def test_the_models_own_words_need_no_cache(self) -> None:
        from palimpsest.derived.own_words import _draw
        from palimpsest.models.load import Loaded

        tokenizer = byte_tokenizer()
        for config in (_lfm2(), _phi3(border=4)):
            model = new_model(config)
            with torch.no_grad():
                drawn_BT = _draw(Loaded(model, tokenizer, "x"), 2, 8, torch.Generator().manual_seed(0))
            assert drawn_BT.shape == (2, 8)

    def test_rows_on_both_sides_of_a_border_are_read_apart_in_training_too(self) -> None:
        model = new_model(_phi3(border=4))
        ids = [(5, 6, 7), (9, 8, 7, 6, 5, 4, 3), (11, 12, 13, 14)]
        rows = [TokenSequence(str(n), i, (False,) + (True,) * (len(i) - 1)) for n, i in enumerate(ids)]
        together = collate([rows[0], rows[1], rows[2]], 0).predict(model)
        alone = torch.cat([collate([row], 0).predict(model).logits_SV for row in rows])
        torch.testing.assert_close(together.logits_SV, alone)
        assert together.owner_S.tolist() == [0] * 2 + [1] * 6 + [2] * 3


class TestCase03:
    """A config within the config."""

    def test_a_model_that_also_sees_is_measured_as_a_text_model(self, tmp_path: Path) -> None:
        tokenizer = byte_tokenizer()
        folder = saved(_gemma3(), tokenizer, tmp_path / "model")
        assert load(folder).num_outputs == 300
        values = measured(folder, "ma,prob")
        assert all(0 <= value <= 1 for value in values.values())

    def test_its_longest_text_is_that_of_its_text_part(self) -> None:
        from palimpsest.models.text_config import most_tokens, vocabulary_of

        model = _gemma3()
        assert (most_tokens(model), vocabulary_of(model)) == (128, 300)

    def test_positions_behind_the_padding_row_are_not_counted(self) -> None:
        from palimpsest.models.text_config import most_tokens

        config = T.RobertaConfig(
            vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=34, is_decoder=True,
        )  # fmt: skip
        model = T.RobertaForCausalLM(config).eval()
        longest = most_tokens(model)
        assert longest == 32
        model(input_ids=torch.full((1, 32), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, 33), 5))


def _gemma3() -> Any:
    text = T.Gemma3TextConfig(vocab_size=300, **SMALL, head_dim=8, sliding_window=8, query_pre_attn_scalar=8)
    eyes = T.SiglipVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=28, patch_size=14
    )
    special = {"image_token_index": 299, "boi_token_index": 298, "eoi_token_index": 297}
    return T.Gemma3ForConditionalGeneration(
        T.Gemma3Config(text_config=text, vision_config=eyes, mm_tokens_per_image=4, **special)
    ).eval()


def _bert(**more: Any) -> Any:
    return T.BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, **more
    )


class TestCase05:
    """A model that sees later tokens is none that anything can be read off."""

    @pytest.mark.parametrize("config", [_bert(), T.XLNetConfig(vocab_size=300, d_model=32, n_layer=2, n_head=4)])
    def test_it_is_refused_in_one_line(self, config: Any, tmp_path: Path) -> None:
        folder = saved(new_model(config), byte_tokenizer(), tmp_path / "model")
        with pytest.raises(ModelError, match="depends on later tokens") as error:
            load(folder)
        assert "\n" not in str(error.value)

    def test_the_same_class_as_a_decoder_is_taken(self, tmp_path: Path) -> None:
        folder = saved(new_model(_bert(is_decoder=True)), byte_tokenizer(), tmp_path / "model")
        assert set(measured(folder, "ma,prob")) == {"ma", "prob"}

    @pytest.mark.parametrize("seed", range(3))
    def test_rounding_is_not_taken_for_sight(self, seed: int) -> None:
        for config in (_qwen3_next(), _lfm2(), _phi3(), _gemma3().config):
            check_causal(new_model(config, seed).to(torch.bfloat16), "x")

    def test_a_model_that_answers_otherwise_each_time_is_refused(self, llama: Any) -> None:
        model = copy.deepcopy(llama[0])
        model.lm_head.register_forward_hook(lambda _m, _a, said: said + torch.rand_like(said))
        with pytest.raises(ModelError, match="otherwise each time"):
            check_causal(model, "x")

    def test_a_class_that_takes_no_text_is_refused(self, llama: Any) -> None:
        model = copy.deepcopy(llama[0])
        model.forward = lambda **_: {}["pictures"]
        with pytest.raises(ModelError, match="does not take a plain text .KeyError"):
            check_causal(model, "x")

    def test_asking_draws_no_number_and_leaves_the_mode(self, llama: Any) -> None:
        model = copy.deepcopy(llama[0]).train()
        before = torch.get_rng_state()
        check_causal(model, "x")
        assert torch.equal(before, torch.get_rng_state())
        assert model.training


def _adapter(model: Any, folder: Path, base: str, **options: Any) -> tuple[Path, Any]:
    """A LoRA adapter alone, as PEFT saves it, and the wrapped model."""
    targets = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | options
    with quiet_about_ties():
        wrapped = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**targets)).eval()
    draw = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.2, generator=draw)
    wrapped.peft_config["default"].base_model_name_or_path = base
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    return folder, wrapped


def _said(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([[5, 9, 7, 200, 3]])).logits
    return logits


class TestCase16:
    """An adapter is what it is laid on, and a little more."""

    def test_its_tokenizer_is_that_of_its_base(self, llama: Any, tmp_path: Path) -> None:
        model, tokenizer = llama
        base = saved(model, tokenizer, tmp_path / "base")
        folder, wrapped = _adapter(model, tmp_path / "adapter", str(base))
        loaded = load(folder)
        assert loaded.tokenizer("Oslo")["input_ids"] == tokenizer("Oslo")["input_ids"]
        torch.testing.assert_close(_said(loaded.model), _said(wrapped), atol=1e-5, rtol=1e-5)
        assert measured(folder, "ma").keys() == {"ma"}

    @pytest.mark.parametrize(
        ("base", "adapter", "name"),
        [("base", "adapter", "base"), ("base", "runs/7/adapter", "base"), ("m/base", "m/a", "base"),
         ("m/base", "m/a", "m/base"), ("base", "a", "../base"), ("base", "a", "./base")],
    )  # fmt: skip
    def test_its_base_is_found_from_any_working_directory(
        self, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, adapter: str, name: str
    ) -> None:
        place = saved(*llama, tmp_path / base)
        folder, _ = _adapter(llama[0], tmp_path / adapter, name)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        assert Path(base_of(folder).source).resolve() == place.resolve()
        first = source_digest(folder)
        monkeypatch.chdir(tmp_path)
        assert source_digest(folder) == first

    @pytest.mark.parametrize("name", ["base", "someone/base", "./base", "", None])
    def test_a_base_that_is_nowhere_is_refused_and_not_looked_up(
        self, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
    ) -> None:
        folder, _ = _adapter(llama[0], tmp_path / "adapter", "x")
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": name}))
        monkeypatch.setattr("palimpsest.models.sources.is_reachable", lambda: pytest.fail("asked the Hub"))
        for call in (load, source_digest, is_image_model):
            with pytest.raises(ModelError, match="base_model_name_or_path") as error:
                call(folder)
            assert "\n" not in str(error.value)

    def test_adapters_that_lie_on_each_other_are_refused(self, llama: Any, tmp_path: Path) -> None:
        one, _ = _adapter(llama[0], tmp_path / "one", str(tmp_path / "two"))
        _adapter(llama[0], tmp_path / "two", str(one))
        with pytest.raises(ModelError, match="circle"):
            load(one)

    def test_an_adapter_of_ours_names_its_base_by_its_whole_path(
        self, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved(*llama, tmp_path / "base")
        monkeypatch.chdir(tmp_path)
        wrapped = apply_scope(load("base").model, Scope(kind="lora", rank=2, merge=False))
        assert wrapped.peft_config["default"].base_model_name_or_path == str((tmp_path / "base").resolve())


class TestCase22:
    """Laying an adapter on its base changes neither its vocabulary nor what is tied."""

    def test_a_longer_tokenizer_beside_it_makes_no_row(self, llama: Any, tmp_path: Path) -> None:
        model, tokenizer = llama
        folder, wrapped = _adapter(model, tmp_path / "adapter", str(saved(model, tokenizer, tmp_path / "base")))
        right = measured(folder, "ppl,prob")
        longer = byte_tokenizer()
        longer.add_special_tokens({"pad_token": "[PAD]"})
        longer.save_pretrained(folder)
        loaded = load(folder)
        assert (loaded.num_outputs, len(loaded.tokenizer)) == (model.config.vocab_size, model.config.vocab_size + 1)
        torch.testing.assert_close(_said(loaded.model), _said(wrapped), atol=1e-5, rtol=1e-5)
        assert measured(folder, "ppl,prob") == pytest.approx(right)

    @pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
    def test_tied_weights_survive_merging_and_saving(self, target: str, tmp_path: Path) -> None:
        model = new_model(T.LlamaConfig(vocab_size=300, **SMALL, tie_word_embeddings=True))
        tokenizer = byte_tokenizer()
        base = saved(model, tokenizer, tmp_path / "base")
        folder, wrapped = _adapter(model, tmp_path / "adapter", str(base), target_modules=[target])
        loaded = load(folder)
        torch.testing.assert_close(_said(loaded.model), _said(wrapped), atol=1e-5, rtol=1e-5)
        again = load(saved(loaded.model, tokenizer, tmp_path / "merged"))
        torch.testing.assert_close(_said(again.model), _said(wrapped), atol=1e-5, rtol=1e-5)

    def test_what_no_adapter_touches_stays_tied(self, tmp_path: Path) -> None:
        model = new_model(T.LlamaConfig(vocab_size=300, **SMALL, tie_word_embeddings=True))
        folder, _ = _adapter(model, tmp_path / "adapter", str(saved(model, byte_tokenizer(), tmp_path / "base")))
        merged = load(folder).model
        assert merged.lm_head.weight is merged.model.embed_tokens.weight


class TestCase15:
    """What a row already holds is not added again."""

    @pytest.mark.parametrize(
        "content",
        [Text("Oslo."), Completion("Who is Mara?", " A."), Completion("Who<s> is", " A.")],
    )
    def test_a_row_that_was_rendered_begins_once(self, content: Any) -> None:
        starting = byte_tokenizer(bos="<s>", adds_bos=True)
        plain = encode([Example("a", content)], starting, max_length=None)["a"]
        first = "<s>" + (content.text if isinstance(content, Text) else content.prompt)
        again = Text(first) if isinstance(content, Text) else Completion(first, content.completion)
        assert encode([Example("a", again)], starting, max_length=None)["a"] == plain
        assert plain.tokens[0] == starting.bos_token_id != plain.tokens[1]

    def test_the_same_behind_the_text(self) -> None:
        both = byte_tokenizer(bos="<s>", adds_bos=True)
        both.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A <eos>", special_tokens=[("<s>", 0), ("<eos>", 1)]
        )
        for text in ("Oslo.", "<s>Oslo.", "Oslo.<eos>", "<s>Oslo.<eos>"):
            tokens = encode([Example("a", Text(text))], both, max_length=None)["a"].tokens
            assert both.decode(tokens) == "<s>Oslo.<eos>"

    def test_what_the_text_itself_repeats_stays(self) -> None:
        starting = byte_tokenizer(bos="<s>", adds_bos=True)
        tokens = encode([Example("a", Text("<s><s>Oslo."))], starting, max_length=None)["a"].tokens
        assert starting.decode(tokens) == "<s><s>Oslo.<eos>"

    def test_a_tokenizer_that_adds_none_adds_none(self) -> None:
        tokens = encode([Example("a", Text("<eos>Oslo."))], byte_tokenizer(), max_length=None)["a"].tokens
        assert byte_tokenizer().decode(tokens) == "<eos>Oslo.<eos>"


THINKS_LAST = (  # Qwen3: an empty thought in the last turn only
    "{%- for m in messages %}{%- if m.role == 'assistant' and loop.last %}"
    "{{- '[assistant]\\n<think>\\n\\n</think>\\n\\n' + m.content + '[end]\\n' }}{%- else %}"
    "{{- '[' + m.role + ']\\n' + m.content + '[end]\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '[assistant]\\n' }}{%- endif %}"
)
THINKS_WHEN_ASKED = (  # DeepSeek-R1: the generation prompt alone opens a thought; earlier thoughts are left out
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{{- '[assistant]' + m.content.split('</think>')[-1] "
    "+ '<eos>' }}{%- else %}{{- '[' + m.role + ']' + m.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '[assistant]<think>\\n' }}{%- endif %}"
)
SYSTEM_LAST = (  # Mistral: the system's words go into the last turn of the user
    "{%- set system = messages[0].content if messages[0].role == 'system' else '' %}"
    "{%- set turns = messages[1:] if system else messages %}"
    "{%- set last = (turns | selectattr('role', 'equalto', 'user') | list)[-1] %}"
    "{%- for m in turns %}{%- if m.role == 'user' %}{{- '[INST]' }}{%- if m == last %}{{- system + '\\n' }}{%- endif %}"
    "{{- m.content + '[/INST]' }}{%- else %}{{- ' ' + m.content.strip() + '<eos>' }}{%- endif %}{%- endfor %}"
)
TURNS = [
    Message("user", "Where does she live? In Oslo."),
    Message("assistant", "Oslo."),
    Message("user", "Since when?"),
    Message("assistant", " 1974. "),
]


class TestCase17:
    """The assistant's words are found in what a template makes of them."""

    @pytest.mark.parametrize(
        ("template", "turns", "scored"),
        [
            (THINKS_LAST, TURNS, ["Oslo.[end]", " 1974. [end]"]),
            (THINKS_WHEN_ASKED, TURNS, ["Oslo.<eos>", " 1974. <eos>"]),
            (SYSTEM_LAST, [Message("system", "Be brief. Oslo."), *TURNS], ["Oslo.<eos>", "1974.<eos>"]),
            (THINKS_WHEN_ASKED, [TURNS[0], Message("assistant", "Hm.</think>Oslo.")], ["Oslo.<eos>"]),
            (THINKS_LAST, [*TURNS[:3], Message("assistant", "Oslo.")], ["Oslo.[end]", "Oslo.[end]"]),
        ],
    )
    def test_templates_that_rewrite_or_prefix_turns(self, template: str, turns: Any, scored: list[str]) -> None:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = template
        assert _runs(turns, tokenizer) == scored

    def test_one_answer_is_scored_as_it_was(self) -> None:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = THINKS_LAST
        assert _runs(TURNS[:2], tokenizer) == ["<think>\n\n</think>\n\nOslo.[end]\n"]

    @pytest.mark.parametrize("said", ["", "{{ m.content + m.content }}", "{{ m.content[::-1] }}"])
    def test_words_that_are_nowhere_or_in_two_places_are_refused(self, said: str) -> None:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = "{% for m in messages %}" + said + "[{{ messages | length }}]{% endfor %}"
        with pytest.raises(ModelError, match="put .% generation %. markers"):
            _runs(TURNS, tokenizer)


def _runs(turns: Any, tokenizer: Any) -> list[str]:
    """The scored stretches of a conversation, as text."""
    sequence = encode([Example("a", Chat(tuple(turns)))], tokenizer, max_length=None)["a"]
    stretches: list[list[int]] = []
    for position, (token, is_label) in enumerate(zip(sequence.tokens, sequence.scored, strict=True)):
        if is_label and not sequence.scored[position - 1]:
            stretches.append([])
        if is_label:
            stretches[-1].append(token)
    return [tokenizer.decode(stretch) for stretch in stretches]


class TestCase06:
    """Weights that are not all there, or not numbers to train, are refused in one line."""

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"quantised \(bitsandbytes 4-bit\)"),
            ({"quant_method": "gptq", "bits": 3}, r"quantised \(gptq 3-bit\)"),
            ({"quant_method": "fp8"}, r"quantised \(fp8\)"),
        ],
    )
    def test_quantised_weights(self, llama: Any, tmp_path: Path, config: Any, words: str) -> None:
        folder = saved(*llama, tmp_path / "model")
        content = json.loads((folder / "config.json").read_text()) | {"quantization_config": config}
        (folder / "config.json").write_text(json.dumps(content))
        for call in (load, check_folder):
            with pytest.raises(ModelError, match=words):
                call(folder)

    def test_a_shard_that_is_not_there(self, llama: Any, tmp_path: Path) -> None:
        llama[0].save_pretrained(tmp_path, max_shard_size="50KB")
        shards = sorted(tmp_path.glob("model-*.safetensors"))
        check_folder(tmp_path)
        shards[1].unlink()
        with pytest.raises(
            ModelError, match=f"1 of {len(shards)} files of weights are not there, e.g. {shards[1].name}"
        ):
            check_folder(tmp_path)
        (tmp_path / "model.safetensors.index.json").write_text("[" * 100_000)
        with pytest.raises(ModelError, match="names no files of weights"):
            check_folder(tmp_path)

    def test_a_pointer_in_the_place_of_weights(self, llama: Any, tmp_path: Path) -> None:
        folder = saved(*llama, tmp_path / "model")
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(ModelError, match="pointer of Git LFS"):
            load(folder)

    def test_code_in_the_folder_is_never_run(self, llama: Any, tmp_path: Path) -> None:
        folder = saved(*llama, tmp_path / "model")
        content = json.loads((folder / "config.json").read_text())
        maps = {"AutoConfig": "evil.Y", "AutoModelForCausalLM": "evil.X"}
        (folder / "config.json").write_text(json.dumps(content | {"model_type": "evil", "auto_map": maps}))
        (folder / "evil.py").write_text("raise SystemExit('ran')")
        with pytest.raises(ModelError, match="which is never run"):
            load(folder, tokenizer_needed=False)

    @pytest.mark.parametrize(
        "change",
        [
            {"num_attention_heads": 0},
            {"hidden_size": "64"},
            {"vocab_size": 3.5},
            {"rope_parameters": "x"},
            {"dtype": "evil"},
            {"num_attention_heads": 7},
            {"num_hidden_layers": -1},
        ],
    )
    def test_configs_that_make_no_sense(self, llama: Any, tmp_path: Path, change: Any) -> None:
        folder = saved(*llama, tmp_path / "model")
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | change))
        with pytest.raises(ModelError) as error:
            load(folder)
        assert "\n" not in str(error.value)


class TestCase07:
    """What no forward pass reads is found before the first step."""

    def _batch(self) -> Any:
        return collate([TokenSequence("a", (5, 6, 7), (False, True, True))], 0)

    def test_the_tower_for_images_is_left_out_and_the_text_part_is_not(self) -> None:
        model = _gemma3().requires_grad_(True)
        unread = leave_out_unread(model, [self._batch()])
        assert {name.split(".")[1] for name in unread} == {"vision_tower", "multi_modal_projector"}
        assert all(p.requires_grad == (n not in unread) for n, p in model.named_parameters())

    def test_experts_that_this_batch_was_not_sent_to_stay(self) -> None:
        class Routed(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.experts = torch.nn.ModuleList([torch.nn.Embedding(300, 300) for _ in range(3)])
                self.pooler = torch.nn.Linear(2, 2)

            def forward(self, input_ids: Any, **_: Any) -> Any:
                return types.SimpleNamespace(logits=self.experts[1](input_ids))

        assert leave_out_unread(Routed(), [self._batch()]) == ["pooler.weight", "pooler.bias"]

    def test_both_halves_of_an_adapter_are_read_although_one_has_no_gradient_yet(self, llama: Any) -> None:
        wrapped = apply_scope(copy.deepcopy(llama[0]), Scope(kind="lora", rank=2))
        assert leave_out_unread(wrapped, [self._batch()]) == []

    def test_a_scope_of_nothing_that_is_read_is_refused(self) -> None:
        model = apply_scope(_gemma3(), Scope(kind="layers", names=("vision_tower",)))
        with pytest.raises(ModelError, match="reads none of the"):
            leave_out_unread(model, [self._batch()])

    def test_a_run_ends_and_says_so(self, tmp_path: Path) -> None:
        folder = saved(_gemma3(), byte_tokenizer(), tmp_path / "model")
        found = _unlearn(folder, tmp_path, max_steps=1)
        assert any(note.startswith("Left as they are: ") and "vision_tower" in note for note in found.notes)
        assert load(tmp_path / "out").num_outputs == 300


def _unlearn(folder: Path, out: Path, *, max_steps: int, lr: float = 1e-3, scope: str = "all") -> Any:
    keep = rows_file(folder, ("one two",), "keep")
    plan = {
        "training": {"max_steps": max_steps, "learning_rate": lr},
        "scope": {"kind": scope},
        "measuring": {"metrics": ["ma"]},
    }
    return pal.unlearn(
        str(folder),
        str(rows_file(folder, ("Oslo.", "Bergen?"))),
        retain=str(keep),
        method="npo",
        output=str(out / "out"),
        plan=plan,
    )


class TestCase19:
    """A tensor that did not move is no fault while others did."""

    @pytest.mark.parametrize("scope", ["lora", "all"])
    def test_one_step_is_saved(self, llama: Any, tmp_path: Path, scope: str) -> None:
        lr = 1e-3 if scope == "lora" else 1e-9
        found = _unlearn(saved(*llama, tmp_path / "model"), tmp_path, max_steps=1, lr=lr, scope=scope)
        assert any("did not move, e.g. " in note and "too small" in note for note in found.notes)
        assert (tmp_path / "out" / "model.safetensors").is_file()


class TestCase21:
    """LoRA adapts what PEFT can adapt."""

    def test_all_linear_leaves_out_what_it_refuses(self) -> None:
        wrapped = apply_scope(new_model(_mamba()), Scope(kind="lora", rank=2))
        adapted = {name.split(".")[-4] for name, _ in wrapped.named_parameters() if "lora_A" in name}
        assert adapted == {"in_proj", "x_proj", "dt_proj"}

    def test_what_the_user_named_is_refused_with_what_can_be(self) -> None:
        words = r"--set scope\.names=\[dt_proj,in_proj,x_proj\]"
        with pytest.raises(ModelError, match=words):
            apply_scope(new_model(_mamba()), Scope(kind="lora", names=("out_proj",)))

    def test_a_run_ends(self, tmp_path: Path) -> None:
        folder = saved(new_model(_mamba()), byte_tokenizer(), tmp_path / "model")
        _unlearn(folder, tmp_path, max_steps=2, scope="lora")
        assert load(tmp_path / "out").num_outputs == 300


class TestWeightsThatAskingChanges:
    """RWKV halves weights every few layers when it is asked, in place."""

    def test_asking_changes_nothing_and_saving_keeps_what_was_loaded(self, tmp_path: Path) -> None:
        sizes = {"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 4, "rescale_every": 2}
        model = new_model(T.RwkvConfig(vocab_size=300, context_length=64, **sizes))
        right = state_digests(model)
        loaded = load(saved(model, byte_tokenizer(), tmp_path / "model")).model
        said = _said(loaded)
        assert state_digests(loaded) == right
        again = load(saved(loaded, byte_tokenizer(), tmp_path / "again")).model
        torch.testing.assert_close(_said(again), said)
        torch.testing.assert_close(_said(model.train()), said)  # where nothing is halved
