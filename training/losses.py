"""What the student is asked for: the teacher's vectors, its similarities, and the right partner of a pair.

Shapes: N texts of a step, H the student's width, P pairs. All losses are means, so that their weights mean
the same at every batch size; each is taken at every width of the design, as vectors are cut by users.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from designs import Design

_TEACHER_TEMPERATURE = 0.05
_PAIR_TEMPERATURE = 0.05
_NEVER = -1e4


@dataclass(frozen=True)
class Targets:
    """What the texts of a step should give."""

    projected: Tensor  # [N, H] the teacher's vectors in the student's space, unit length
    full: Tensor  # [N, 384] the teacher's vectors, unit length
    weights: Tensor  # [N] how much each counts, of mean 1
    pairs: Tensor  # [P, 2] indices of texts that belong together
    negatives: Tensor  # [M, 2] indices of texts that contradict each other

    def to(self, device: torch.device) -> "Targets":
        return Targets(*(getattr(self, each.name).to(device) for each in fields(self)))


def loss(vectors: Tensor, targets: Targets, design: Design) -> dict[str, Tensor]:
    """The parts of the loss, by name, each with its weight in it; their sum is what is learnt from."""
    vectors = vectors.float()
    similarity = targets.full @ targets.full.T / _TEACHER_TEMPERATURE
    similarity = similarity.fill_diagonal_(_NEVER).softmax(dim=1)
    at_widths = []
    for width in design.widths:
        unit = functional.normalize(vectors[:, :width])
        wanted = functional.normalize(targets.projected[:, :width])
        cosines = unit @ unit.T
        at_widths.append({
            "regress": design.regress * (targets.weights * (1 - (unit * wanted).sum(dim=1))).mean(),
            "relate": design.relate * (targets.weights * _relate(cosines, similarity)).mean(),
            "contrast": design.contrast * _contrast(cosines, targets),
        })  # fmt: skip
    return {name: torch.stack([parts[name] for parts in at_widths]).mean() for name in at_widths[0]}


def _relate(cosines: Tensor, similarity: Tensor) -> Tensor:
    """How far the neighbours of each text are from those that the teacher sees (Kullback-Leibler), [N]."""
    logits = cosines / _TEACHER_TEMPERATURE
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(itself, _NEVER).log_softmax(dim=1)
    return functional.kl_div(logits, similarity, reduction="none").sum(dim=1)


def _contrast(cosines: Tensor, targets: Targets) -> Tensor:
    """Pick each text's partner among the partners of all, and its contradictions (InfoNCE, both ways)."""
    left, right = targets.pairs.T
    device = cosines.device
    if len(left) < 2:
        return torch.zeros((), device=device)
    logits = cosines[left][:, right] / _PAIR_TEMPERATURE
    # A text that stands in several pairs is no negative of itself.
    same = (right[:, None] == right[None, :]) | (left[:, None] == left[None, :])
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, _NEVER)
    answer = torch.arange(len(left), device=device)
    forward = logits
    if len(targets.negatives):
        hard = torch.full((len(left),), _NEVER, device=device)
        place = {text: at for at, text in enumerate(left.tolist())}
        known = [(place[a], a, n) for a, n in targets.negatives.tolist() if a in place]
        if known:
            at, a, n = torch.tensor(known, device=device).T
            hard = hard.index_put((at,), cosines[a, n] / _PAIR_TEMPERATURE)
        forward = torch.cat((logits, hard[:, None]), dim=1)
    return 0.5 * (
        functional.cross_entropy(forward, answer) + functional.cross_entropy(logits.T, answer)
    )
