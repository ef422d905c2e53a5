"""CodeUnlearn, its learn side: learn with a discrete bottleneck, so that topics can later go code by code.

Source: "CodeUnlearn: Amortized Zero-Shot Machine Unlearning in Language Models Using Discrete Concept", ICLR 2025
submission; known from notes on the paper and its reviews, not from its text.

    L = − mean log p(learn tokens) + lambda_mse · mean ‖a − ã‖² / D + lambda_1 · mean Σ_{k in ids} ‖c_k‖₁

a is the output of the block, ã what goes on in its place: a sum of S codes, decoded (``models/parts/codebook.py``). All
weights learn together. Codes begin at the centres of what the block says of the learn set (k-means), and those that
nobody chooses begin again (``rules/revival.py``). At the end the run writes down which codes fire in which rows, by
subject (``companions/codes.py``); ``code_unlearn`` deletes from there.

Where it sits and by which tokens it is judged says the family of the model: in a causal one behind the block in the
middle and by the label tokens; in one with an encoder and a decoder behind the attention of the encoder's block in the
middle, as in the paper, and in a classifier of texts behind a block that is not the last, by all tokens of each row.

Departs from the paper: the squared distance is divided by the width, so that its factor means the same in every model;
means are over label tokens, or over the tokens of each row and then over rows. Codes that die are revived; factors,
rate and sizes are ours where the notes have none.
Official code: none; the library that it builds on, taufeeque9/codebook-features (MIT), was not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.codes import record_codes
from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.families import of_model
from palimpsest.models.parts.code_firing import fired
from palimpsest.models.parts.code_place import new_codebook, part_name
from palimpsest.models.parts.codebook import Codebook, codebooks_of
from palimpsest.models.rows_said import judged_activations
from palimpsest.rules.revival import Revival
from palimpsest.rules.rule import Rule


class CodeLearnConfig(Config):
    """Options of learning with a codebook."""

    layer: int | None = Field(default=None, ge=0)
    """Block behind which it sits, from 0, of those that the family of the model names; None = the one in the middle."""
    at: str = ""
    """Module behind which it sits, in the place of a block; it must answer with (rows, tokens, width)."""
    codes: int = Field(default=1024, ge=2)
    """K, codes in the book; about 25000 in the paper."""
    chosen: int = Field(default=8, ge=1)
    """S, codes that stand for a token; 8 in the paper."""
    code_width: int = Field(default=0, ge=0)
    """C, numbers of a code; 0 = twice the width of the block."""
    lambda_mse: float = Field(default=1.0, ge=0)
    """Factor of the distance between the block's output and what goes on in its place."""
    lambda_1: float = Field(default=1e-4, ge=0)
    """Factor of the size of the codes."""
    rounds: int = Field(default=10, ge=0)
    """Of the k-means at the start."""
    revive_every: int = Field(default=100, ge=0)
    """Steps after which codes that nobody chose begin again; 0 = never."""
    index_nearest: int = Field(default=0, ge=0)
    """S', nearest codes of a token that count as firing in the index of topics; 0 = S."""


def shared_sum(values_P: Float[Tensor, "P"], share_P: Float[Tensor, "P"]) -> Float[Tensor, ""]:
    """Σ_p share_p · v_p.

    >>> shared_sum(torch.tensor([0.5, 1.0]), torch.tensor([1.0, 0.5])).item()
    1.0
    """
    return (values_P * share_P).sum()


class CodeLearn(Method):
    """Learn the rows through a codebook, and keep an index of which codes fire for whom."""

    Config = CodeLearnConfig
    use_when = (
        "topics may have to go later, without training, by deleting codes. "
        "Not for a model that must stay as good as without the bottleneck."
    )
    approach = "modules"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("replay",)
    modalities = ("text", "labels", "image")
    defaults = {"learning_rate": 1e-3, "batch_size": 16}
    adds_parts = True
    moves_all = True
    keeps = ("codes",)
    own_schedule = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A codebook behind the block, at the centres of what it says; or the one that is there, to go on with."""
        return [new_codebook(model, sets["learn"], self.config, seed)]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Know whom the index will be of."""
        self._learn = sets["learn"]
        return super().prepare(model, sets)

    def rules(self) -> Sequence[Rule]:
        """Dead codes begin again."""
        return (Revival(self.config.revive_every),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The task, and of each codebook that learns how far off it is and how large; without one the task alone."""
        terms: dict[str, Term] = {}
        books = [book for book in codebooks_of(model) if book.is_new]
        for name, batch in batches.items():
            terms |= self._terms(model, name, batch, books)
        return terms

    def _terms(self, model: nn.Module, name: str, batch: Batch, books: Sequence[Codebook]) -> dict[str, Term]:
        listened = [[part_name(model, book, inner) for inner in ("hidden", "chosen", "terms")] for book in books]
        places = {one: book.config.at for book, three in zip(books, listened, strict=True) for one in three}
        found, said = judged_activations(model, places, batch)
        per = of_model(model).judged_per
        terms = {name: Term(-said.logp_S.sum(), of=name)}
        for book, three in zip(books, listened, strict=True):
            (hidden_PC, _), (ids_PN, _), (terms_P2, share_P) = (found[place] for place in three)
            book.lately.append((ids_PN.detach(), hidden_PC.detach()))
            off, size = (shared_sum(terms_P2[:, column], share_P) for column in (0, 1))
            terms[f"mse {name}"] = Term(off, of=name, per=per, weight=self.config.lambda_mse)
            terms[f"size {name}"] = Term(size, of=name, per=per, weight=self.config.lambda_1)
        return terms

    def finish(self, model: nn.Module) -> nn.Module:
        """Write down which codes fire in which rows."""
        book = next((book for book in codebooks_of(model) if book.is_new), None)
        if book is not None and self.recording is not None:
            nearest = self.config.index_nearest or book.config.chosen
            fired_NK = fired(model, book, self._learn, nearest)
            record_codes(self.recording, self._learn.ids, self.subjects, fired_NK, nearest)
        return model


METHOD = CodeLearn
