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

    shape: Shape = Shape(layers=2, intermediate=1024)
    # Weights of the three losses (losses.py).
    regress: float = 1.0
    relate: float = 0.5
    contrast: float = 0.1
    bag: bool = True  # the table learns first, as a bag of tokens
    muon: bool = True  # optimiser of the matrices; else AdamW
    rate: float = 1.0  # times all learning rates
    step: int = 8_192  # tokens of a step
    widths: tuple[int, ...] = (256, 128, 64, 32)


SHIPPED = "two-layers"
_TWO = Design()
DESIGNS = {
    SHIPPED: _TWO,
    "one-layer": replace(_TWO, shape=Shape(layers=1, intermediate=768)),
    "three-layers": replace(_TWO, shape=Shape(layers=3, intermediate=768)),
    "four-layers": replace(_TWO, shape=Shape(layers=4, intermediate=768)),
    "regress-only": replace(_TWO, relate=0.0, contrast=0.0),
    "no-bag": replace(_TWO, bag=False),
    "twice-rate": replace(_TWO, rate=2.0),
    "large-steps": replace(_TWO, step=16_384),
    "adamw": replace(_TWO, muon=False),
}
