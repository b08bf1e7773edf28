"""Where the model begins: with weights that make it the bag of tokens that its table was.

In a bag, the length of a row says how much its token counts. The model's first act is to bring all rows to
one length, so the weights must go elsewhere: into two entries of the row, the last ones, as a point on a
circle. The last layer's keys read that point, its query asks for its height, and a softmax of those scores
counts each token as the bag did. Its values pass on the rest of the row, and all other branches add nothing.

Shapes: K rows, H hidden, D head_dim.
"""

import torch
from torch import Tensor, nn

from designs import Shape
from student import Attention, Student

_NOISE = 0.01  # of the rest of queries and keys: what they are to learn needs a slope to begin on
_GAIN = 4.0  # of the last layer's values over what is in its stream at EOS
_EOS = 0.05  # the size of that: the row of EOS is read as any other, but stays in the stream
_LEAST = 1e-6


def as_bag(shape: Shape, rows: Tensor, eos: int) -> Student:
    """The student whose vectors have the directions of the means of `rows` [K, H], but for two of H entries.

    `eos` is the row of EOS, the last token of each text. Row 0 is zero and stays so.
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
    """The score of a token is the height of its point, whatever its place: by the slowest pair of RoPE."""
    hidden, head_dim = last.q_proj.weight.shape[1], last.head_dim
    height, other = head_dim // 2 - 1, head_dim - 1
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
    # Normed, the key is its point times sqrt(D) / radius, the query sqrt(D); the score is divided by sqrt(D).
    for norm in (last.q_norm, last.k_norm):
        nn.init.constant_(norm.weight, (_radius(hidden) / head_dim**0.5) ** 0.5)
