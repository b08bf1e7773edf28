"""Where the model begins: with weights that make it the bag of tokens that its table was, but for a lean.

In a bag, the length of a row says how much its token counts. The model's first act is to bring all rows to
one length, so the weights must go elsewhere: into two entries of the row, the last ones, as a point on a
circle. The last layer's keys read that point, its query asks for its height, and a softmax of those scores
counts each token as the bag did. Its values pass on the rest of the row, and all other branches add nothing.

A bag sees no order, but documents say at their beginning what they are about, and the teacher reads nothing
else of a long one. So the scores also lean: to what is far from the end, by some pairs of RoPE. All of
this is learnt on.

Shapes: K rows, H hidden, D head_dim.
"""

import math

import torch
from torch import Tensor, nn

from designs import Shape
from student import THETA, Attention, Student

_NOISE = 0.01  # of the rest of queries and keys: what they are to learn needs a slope to begin on
_GAIN = 4.0  # of the last layer's values over what is in its stream at EOS
_EOS = 0.05  # the size of that: the row of EOS is read as any other, but stays in the stream
_LEAST = 1e-6
# The lean is the mean of one cosine for each of some pairs of RoPE: its height, the pairs' periods in tokens,
# the angle of all at a text's end. With these it rises by 1.1 over 300 tokens, and is about level from there.
_LEAN = 1.35
_PERIODS = (700.0, 10_000.0)
_AT_END = -0.75 * math.pi


def as_bag(shape: Shape, rows: Tensor, eos: int) -> Student:
    """The student whose vectors have the directions of the means of `rows` [K, H], but for two of H entries.

    In the mean a token counts exp(lean) times. `eos` is the row of EOS, the last token of each text. Row 0 is
    zero and stays so.
    """
    if not shape.hidden == shape.heads * shape.head_dim == shape.kv_heads * shape.head_dim:
        raise ValueError(
            f"values can pass straight on only if heads are as wide as hidden: {shape}"
        )
    placed = _placed(rows)
    query = placed[eos] / placed[eos].square().mean().sqrt()
    placed[eos] *= _EOS
    student = Student(shape, placed)
    for name, weight in student.layers.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(weight)
    last = student.get_submodule(f"layers.{shape.layers - 1}.self_attn")
    assert isinstance(last, Attention)
    with torch.no_grad():
        _pass_on(last)
        _weigh(last, query)
    return student


def _radius(hidden: int) -> float:
    """Of the circle: weights of tokens reach from exp(-radius) to exp(radius)."""
    return float(hidden**0.5 / 2)


def _placed(rows: Tensor) -> Tensor:
    """`rows` at length sqrt(H); in the last two entries, by how much each was longer than most."""
    radius = _radius(rows.shape[1])
    direction = rows[:, :-2]
    length = direction.norm(dim=1, keepdim=True).clamp_min(_LEAST)
    height = (length / length[1:].median()).log().clamp(-0.97 * radius, 0.97 * radius)
    rest = (rows.shape[1] - radius**2) ** 0.5
    placed = torch.cat((direction / length * rest, height, (radius**2 - height**2).sqrt()), dim=1)
    placed[0] = 0
    return placed


def _pass_on(last: Attention) -> None:
    """Values as they are, without the two entries of the weight."""
    nn.init.eye_(last.v_proj.weight)
    last.v_proj.weight[-2:] = 0
    nn.init.eye_(last.o_proj.weight)
    last.o_proj.weight *= _GAIN


def _weigh(last: Attention, query: Tensor) -> None:
    """The score of a token: the height of its point, by the slowest pair of RoPE; and the lean, by others."""
    hidden, head_dim = last.q_proj.weight.shape[1], last.head_dim
    height, other = head_dim // 2 - 1, head_dim - 1
    leaning = _leaning(head_dim)
    # Of keys and queries both. Nearly all points are near (0, radius): their other entry hardly differs.
    share = (_LEAN / len(leaning) / _radius(hidden)) ** 0.5
    nn.init.normal_(last.k_proj.weight, std=_NOISE)
    nn.init.normal_(last.q_proj.weight, std=_NOISE / head_dim**0.5)
    for head in range(last.heads):
        of_keys, of_queries = (
            each.weight[head * head_dim : (head + 1) * head_dim]
            for each in (last.k_proj, last.q_proj)
        )
        of_keys[[height, other]] = 0
        of_keys[height, -2] = of_keys[other, -1] = 1
        of_queries[height] = query / hidden
        of_queries[other] = 0
        for first in leaning:
            second = first + head_dim // 2
            of_keys[[first, second]] = 0
            of_keys[first, -1] = share
            of_queries[first] = query / hidden * share * math.cos(_AT_END)
            of_queries[second] = query / hidden * share * math.sin(_AT_END)
    # The norms bring keys and queries to sqrt(D), and the score is divided by that. Without the lean keys had
    # the length radius, queries 1.
    longer = 1 + len(leaning) * share**2
    for norm in (last.q_norm, last.k_norm):
        nn.init.constant_(norm.weight, (_radius(hidden) * longer / head_dim**0.5) ** 0.5)


def _leaning(head_dim: int) -> list[int]:
    """The pairs of RoPE with the periods that make the lean."""
    low, high = _PERIODS
    return [n for n in range(head_dim // 2) if low < 2 * math.pi / _rate(n, head_dim) < high]


def _rate(pair: int, head_dim: int) -> float:
    """By what angle a pair of RoPE turns from one token to the next."""
    return float(THETA ** (-2 * pair / head_dim))
