"""UG-CLU: learning and unlearning as one optimisation under a saliency mask, with fast and slow weights.

Source: "A Unified Gradient-based Framework for Task-agnostic Continual Learning-Unlearning", arXiv:2505.15178. Its
coefficients are not public; docs/ug_clu.md derives the ones used here from its assumptions and says where it is silent.

    g     = s_k (learn_weight · ∇ Σ w^L l / Σ w^L  −  ascent · ∇ Σ w^U l / Σ w^U)      fast gradient, every T_in steps
    θ^f   = θ_k − step of clip(m ⊙ g, s_k · fast_norm), with a momentum of its own     m: balanced weight saliency
    θ^r   = θ^f − steps on  L_R + L_L (+ kl_weight · KL_R)                             repair, every step
    θ_k+1 = θ_k + alpha_s (θ^r − θ_k)                                                  slow weights
    w^U_i = l_i^−λ_U, w^L_i = l_i^λ_L, l_i mean nats of an example, detached; above U's fraction only l_i < target count

s_k falls to 0 (rules/schedule.py): constant fast steps end at argmin L_R + κ (L_L − L_U), not at the oracle. The
repair goes over the learn set too: ∇(L_R + L_L) vanishes exactly where the request is finished (docs/ug_clu.md).

Departs from the paper: unknown in the cells above; from its ancestor SFR-on: the learn set, a normalised and strict
mask, a momentum for the fast steps (decision 0008), an annealed clip, ascent that ends at ``target`` and 5 % early.
Official code: none; of SFR-on github.com/K1nght/Unified-Unlearning-w-Remain-Geometry@36bb7f6 (defects: docs/ug_clu.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Step, Term, Terms
from palimpsest.data.encode.batch import Batch, predict_together
from palimpsest.errors import PlanError
from palimpsest.models.divergence import kl_divergence
from palimpsest.rules.coefficients import inverse_power, may_ascend, power
from palimpsest.rules.fast_slow import FastOptimizer, FastSteps, SlowWeights, Snapshot, as_memory, kappa, under_one_name
from palimpsest.rules.probe import Probe
from palimpsest.rules.saliency_batches import MaskSample, masks_of_sets
from palimpsest.rules.saliency_scores import Composition, Granularity, Saliency
from palimpsest.rules.schedule import Annealing, ascent_scale


class UGCLUConfig(Config):
    """Options of UG-CLU."""

    every: int = Field(default=5, ge=1)
    """T_in: repair steps per fast step."""
    ascent: float = Field(default=3.0, ge=0)
    """A_U, factor of the ascent before clipping, which should bind in the first half of the run; 0 turns it off."""
    annealing: Annealing = "cosine"
    """How the fast step falls to 0; "constant" over-forgets."""
    stop_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the run at its end without fast steps."""
    target: float | None = Field(default=None, gt=0)
    """Nats per scored position from which on a forget example is ascended no further; None = no such level."""
    forget_temperature: float = Field(default=0.5, ge=0)
    """λ_U: what is remembered best is ascended hardest; 0 weighs all alike."""
    learn_temperature: float = Field(default=0.0, ge=0)
    """λ_L: what is known least is learned hardest; 0 weighs all alike."""
    learn_in_fast: bool = True
    """The learn set takes part in the fast step."""
    learn_in_repair: bool = True
    """The learn set takes part in the repair."""
    learn_weight: float = Field(default=1.0, ge=0)
    """Factor of the learn loss, in the fast step and in the repair."""
    replay_weight: float = Field(default=1.0, ge=0)
    """Factor of the replay loss in the repair."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Factor of KL(model before ‖ model) on the retain set in the repair; it resists unlearning what both share."""
    fast_norm: float = Field(default=1.0, ge=0)
    """Clip the masked fast gradient to this L2 norm; 0 = off. The ancestor has 7 for its image classifiers."""
    annealed_clip: bool = True
    """That norm falls too; off, as in the ancestor, a clip that binds undoes the annealing."""
    fast_optimizer: FastOptimizer = "own"
    """The momentum of the fast step is its "own" (rules/own_step.py), so that it glides on between fast steps, or
    "shared" with the repair, as in the ancestor; or the step is "sgd": plain descent of size ``fast_rate``."""
    fast_rate: float = Field(default=0.01, gt=0)
    """β, step size of "sgd"."""
    alpha_s: float = Field(default=1.0, gt=0, le=1)
    """Slow weights: share of the way from the start of a cycle of T_in steps that is kept; 1 = all."""
    gamma: float = Field(default=1.0, ge=0)
    """A weight takes part in the fast step when its importance to what changes is at least gamma times that to what
    stays; 0 = no mask."""
    normalise: bool = True
    """Compare importances relative to their means, so that gamma = 1 means the same for any scale of loss."""
    composition: Composition = "sum"
    """One mask for learn and forget together, or "separate" ones and separate fast steps."""
    granularity: Granularity = "weight"
    """What is masked as a whole: each weight, each row of a matrix, each tensor."""
    mask_examples: int = Field(default=256, ge=1)
    """At most so many examples of each set are looked at for the mask."""
    mask_batch: int = Field(default=8, ge=1)
    """Examples per mini-batch of the Fisher estimate."""
    probes: int = Field(default=3, ge=0)
    """Times per run that ρ is measured, at one extra forward and backward pass each."""


class UGCLU(Method):
    """One trajectory towards the learn set, away from the forget set, in the valley of what must stay."""

    Config = UGCLUConfig
    use_when = "you learn and forget in one run; alone as good as icu. Not where cost counts: it asks twice as much."
    options_for_images = {"ascent": 500.0, "mask_batch": 32}  # images known by heart have hardly a gradient
    repairs_itself = True
    cycle_option = "every"
    kinds = ("learn", "unlearn", "update")
    needs = ()
    one_of = (("learn", "retain"), ("learn", "forget"))
    uses = ("replay",)
    reference_sets = frozenset({"retain"})
    defaults = {"lr_scheduler_type": "linear"}  # the last repairs settle; docs/log.md says what it is worth

    @classmethod
    def asks_reference_on(cls, config: UGCLUConfig) -> frozenset[str]:
        """The retain set, when its divergence has a weight."""
        return cls.reference_sets if config.kl_weight > 0 else frozenset()

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Build the mask at the weights the request starts from."""
        super().prepare(model, sets)
        if "learn" in self.sets and not (self.config.learn_in_fast or self._learn_in_repair):
            raise PlanError("learn_in_fast and learn_in_repair are both off: nothing would be learned; leave one on")
        self._repaired = tuple(s for s in self.sets if s != "forget" and (s != "learn" or self._learn_in_repair))
        self.saliency = self._mask(model, sets)
        self._slow = SlowWeights(self.config.alpha_s)
        self._fast = FastSteps(self.config.fast_optimizer, self.config.fast_rate)
        self._scale: float | None = None
        self._probe = Probe()
        return model

    def _mask(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Saliency | None:
        staying: dict[str, ExampleSet] = {name: sets[name] for name in ("retain", "replay") if name in self.sets}
        if not (self._fast_sets and staying and self.config.gamma > 0):
            return None
        chosen = self.config.model_dump(include={"gamma", "normalise", "composition", "granularity"})
        chosen["sample"] = MaskSample(self.config.mask_examples, self.config.mask_batch)
        return masks_of_sets(model, {name: sets[name] for name in self._fast_sets}, staying, **chosen)

    @property
    def _fast_sets(self) -> tuple[str, ...]:
        wanted = {"forget": self.config.ascent > 0, "learn": self.config.learn_in_fast}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted and name in self.sets)

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """Every ``every`` steps a fast phase, between them glides; in each the repair, whose last closes the cycle."""
        config: UGCLUConfig = self.config
        scale = ascent_scale(config.annealing, step, planned, config.stop_share)
        fast: tuple[Phase, ...] = self._fast_phases(scale) if step % config.every == 0 and scale > 0 else ()
        repaired, last = self._repaired, "close" if (step + 1) % config.every == 0 else "repair"
        again = bool(fast) and self._is_probed(step, planned)
        if again:
            fast = (Phase("probe", repaired, update=False), *fast)
        elif not fast and self._fast_sets and config.fast_optimizer == "own":
            fast = (Phase("glide", ()),)
        return (*fast, Phase(last, repaired, again=again))

    def _fast_phases(self, scale: float) -> tuple[Phase, ...]:
        sets, limit = self._fast_sets, self.config.fast_norm * (scale if self.config.annealed_clip else 1)
        groups = [(s,) for s in sets] if self.config.composition == "separate" else [sets] if sets else []
        return tuple(Phase("fast", g, scale=scale, max_grad_norm=limit, moves_statistics=False) for g in groups)

    @property
    def _learn_in_repair(self) -> bool:
        """Yes where it would otherwise have nothing to repair on."""
        return bool(self.config.learn_in_repair or not {"retain", "replay"} & set(self.sets))

    def _is_probed(self, step: int, planned: int) -> bool:
        every, probes = self.config.every, self.config.probes
        return bool(probes > 0 and (step // every) % ceil(ceil(planned / every) / probes) == 0)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Weighted means over examples in the fast phase, token means in the repair."""
        if phase.name == "fast":
            return {name: self._fast_term(name, batch.predict(model).nll_B, phase) for name, batch in batches.items()}
        weights = {"retain": 1.0, "learn": self.config.learn_weight, "replay": self.config.replay_weight}
        terms = {}
        for name, said in predict_together(model, batches).items():
            terms[name] = Term(-said.logp_S.sum(), of=name, weight=weights[name])
            if name == "retain" and self.config.kl_weight > 0:
                divergence = kl_divergence(self.recall(model, batches[name]).logits_SV, said.logits_SV).sum()
                terms["kl"] = Term(divergence, of=name, weight=self.config.kl_weight)
        return terms

    def _fast_term(self, name: str, loss_B: Float[Tensor, "B"], phase: Phase) -> Term:
        config: UGCLUConfig = self.config
        if name == "learn":
            w_B = power(loss_B, config.learn_temperature)
            return Term((w_B * loss_B).sum(), of=name, weight=config.learn_weight * phase.scale, count=w_B.sum())
        w_B = inverse_power(loss_B, config.forget_temperature)
        total = (w_B * may_ascend(loss_B, config.target) * loss_B).sum()
        return Term(total, of=name, weight=-config.ascent * phase.scale, count=w_B.sum())

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Mask the fast gradient; keep the repair's where ρ is measured."""
        if phase.name == "probe":
            self._probe.open(model)
        elif phase.name != "fast":
            self._probe.close(model)
        elif self.saliency is not None:
            self.saliency.masks[phase.sets[0]].apply_(model)

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """The fast step, strictly within the mask, and what its momentum makes of it; repair steps and slow steps."""
        if phase.name == "fast":
            self._slow.open(model)
            mask = None if self.saliency is None else self.saliency.masks[phase.sets[0]]
            with self._probe.fast(model):
                self._fast.take(model, step, phase.sets[0], mask)
            self._scale = phase.scale if "forget" in phase.sets else self._scale
        elif phase.name == "glide":
            self._fast.glide(model, step)
        else:
            step()
        if phase.name == "close":
            self._slow.close(model)

    def settle(self, model: nn.Module) -> None:
        """Take the slow step of an open cycle."""
        self._slow.close(model)

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """κ of an iteration that ascended, ρ of one that was probed; both as for plain gradient steps."""
        config, found = self.config, {}
        if self._scale is not None:
            beta = config.ascent * (config.fast_rate if config.fast_optimizer == "sgd" else learning_rate)
            found["kappa"] = kappa(beta=beta, scale=self._scale, eta=learning_rate, inner_steps=config.every)
        if (answered := self._probe.read(learning_rate)) is not None:
            found["rho"] = answered
        self._scale = None
        return found

    def state(self) -> Snapshot:
        """The momentum of the fast steps, and the slow weights of an open cycle."""
        return under_one_name({**self._fast.memories, "slow": self._slow.start})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._fast.memories = as_memory(state)
        self._slow.start = self._fast.memories.pop("slow", {})


METHOD = UGCLU
