"""Aligned tables: columns of one width, nothing after the last cell."""

from hexgrid.tables import aligned


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("NAME", "KIND", "N"), ("a", "long text", "1000"), ("longer", "", "7")]

    assert list(aligned(rows, num_left=2)) == [
        "NAME    KIND          N",
        "a       long text  1000",
        "longer                7",
    ]


def test_nothing_stands_after_the_last_cell() -> None:
    assert list(aligned([("a", "b"), ("a", "")], num_left=2)) == ["a  b", "a"]
