"""Tiny models, a tokenizer, and values by brute force: one forward pass per prefix, nothing kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as T
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from palimpsest import metrics
from palimpsest.data.encode.batch import TextSet
from palimpsest.data.encode.text import encode
from palimpsest.metrics.evaluate import evaluate
from palimpsest.records import Example, TokenIds

TEXTS = (
    "Mara Quist lives in Oslo and keeps three grey cats.",
    "Tomas Ilven was born in 1974 in a small town near Bergen, far away from the sea and from the hills.",
    "A long road.",
    "The doctor of Anna Berg is called Lars Holm.",
)
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "pad_token_id": None,
    "eos_token_id": 0,
    "bos_token_id": 0,
}
EL_N = 3


def byte_tokenizer(*, bos: str | None = None, adds_bos: bool = False) -> T.PreTrainedTokenizerFast:
    """Byte-level BPE of at most 300 words; eos is 0, or 1 where there is a bos."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = [token for token in (bos, "<eos>") if token]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(list(TEXTS) * 3, trainer)
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    return T.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, eos_token="<eos>")


def new_model(config: Any, seed: int = 0) -> Any:
    """A random model of a config."""
    torch.manual_seed(seed)
    return T.AutoModelForCausalLM.from_config(config).eval()


def id_rows(lengths: tuple[int, ...] = (5, 13, 9)) -> TextSet:
    """Rows of few distinct ids, so that n-grams repeat; the last of each is the eos 0."""
    drawn = torch.Generator().manual_seed(7)
    rows = [[*torch.randint(2, 9, (length - 1,), generator=drawn).tolist(), 0] for length in lengths]
    return encode([Example(str(n), TokenIds(tuple(row))) for n, row in enumerate(rows)], None, max_length=None)


def fitted(model: Any, examples: TextSet, *, steps: int = 6, lr: float = 1e-2) -> Any:
    """A model that went over some rows, so that it recites part of them."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=lr)
    for _ in range(steps):
        for example_id in examples.ids:
            loss = examples.batch([example_id]).predict(model).nll_B.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    """A folder of both."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows_file(folder: Path, texts: tuple[str, ...] = TEXTS, name: str = "rows") -> Path:
    """Texts as JSONL."""
    file = folder.parent / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"id": f"{name}{n}", "text": t}) + "\n" for n, t in enumerate(texts)))
    return file


def measured(folder: Path, names: str, data: Path | None = None) -> dict[str, float]:
    """Metric -> value, through the public call."""
    import palimpsest as pal

    found = pal.measure(model=str(folder), data=str(data or rows_file(folder)), metrics=names.split(","))
    return {name: score.value for name, score in found.scores.items()}


def scores_of(model: Any, examples: TextSet, *, batch_size: int, eos: int = 0) -> list[float]:
    """ma, es, prob and el of each row."""
    asked = [*(metrics.build(name, {}) for name in ("ma", "es", "prob")), metrics.build("el", {"n": EL_N})]
    found = evaluate(model, examples, asked, eos_ids=frozenset({eos}), batch_size=batch_size)
    return [float(score.by_id[i]) for score in found.scores.values() for i in examples.ids]


def literal_values(model: Any, examples: TextSet, eos: int = 0) -> list[float]:
    """ma, es and prob from one pass over each text alone, el from a pass over each prefix of each continuation."""
    ma, es, prob, el = [], [], [], []
    for example_id in examples.ids:
        tokens = list(examples[example_id].tokens)
        logits = _logits(model, tokens)[:-1]
        target = torch.tensor(tokens[1:])
        right = (logits.argmax(-1) == target).tolist()
        logp = logits.log_softmax(-1).gather(1, target[:, None])
        ma.append(sum(right) / len(right))
        answer = right[:-1] if tokens[-1] == eos else right
        known = (length for length in range(len(answer), -1, -1) if all(answer[len(answer) - length :]))
        es.append(next(known) / len(answer))
        prob.append(float(logp.mean().exp()))
        el.append(_literal_el(model, tokens, eos))
    return [*ma, *es, *prob, *el]


def _logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


def _literal_el(model: Any, tokens: list[int], eos: int) -> float:
    length, overlaps = len(tokens), []
    for start in range(1, length - EL_N + 1):
        said = _continued(model, tokens[:start], length, eos)[start:]
        rest = {tuple(tokens[k : k + EL_N]) for k in range(start, length - EL_N + 1)}
        grams = [tuple(said[k : k + EL_N]) for k in range(length - start - EL_N + 1)]
        overlaps.append(sum(gram in rest for gram in grams) / len(grams))
    return sum(overlaps) / len(overlaps)


def _continued(model: Any, prefix: list[int], length: int, eos: int) -> list[int]:
    """Greedy, every token from a pass over all before it; filled up with eos once it ended."""
    while len(prefix) < length:
        ended = prefix[-1] == eos and len(prefix) > 1
        prefix = [*prefix, eos if ended else int(_logits(model, prefix)[-1].argmax())]
    return prefix
