"""What was tried: every design that docs/nano.md tells about, and the one that is shipped."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """The numbers of the model's config.json."""

    layers: int
    intermediate: int
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 64


@dataclass(frozen=True)
class Design:
    """A shape, a loss and a start."""

    shape: Shape = Shape(layers=4, intermediate=768)
    # Weights of the three losses (losses.py).
    regress: float = 1.0
    relate: float = 0.5
    contrast: float = 0.1
    bag: bool = True  # the table learns first, as a bag of tokens
    muon: bool = True  # optimiser of the matrices; else AdamW
    rate: float = 1.0  # times all learning rates
    step: int = 8_192  # tokens of a step
    widths: tuple[int, ...] = (256, 128, 64, 32)


SHIPPED = "four-layers"
_FOUR = Design()
DESIGNS = {
    SHIPPED: _FOUR,
    "three-wide": replace(_FOUR, shape=Shape(layers=3, intermediate=1024)),
    "six-narrow": replace(_FOUR, shape=Shape(layers=6, intermediate=512)),
    "regress-only": replace(_FOUR, relate=0.0, contrast=0.0),
    "no-bag": replace(_FOUR, bag=False),
    "twice-rate": replace(_FOUR, rate=2.0),
    "large-steps": replace(_FOUR, step=16_384),
    "adamw": replace(_FOUR, muon=False),
}
