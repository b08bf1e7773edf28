"""Texts that are no Unicode are found, and named by their place."""

from hexgrid.surrogates import error_of_surrogates


def test_the_first_text_with_a_lone_surrogate_is_named() -> None:
    error = error_of_surrogates(["good", "\N{GRINNING FACE}", "a\ud800", "\udc00"])

    assert error is not None
    assert (error.index, error.param) == (2, "input")
    assert "Input 2" in error.message


def test_texts_and_ids_that_can_be_sent_have_no_error() -> None:
    assert error_of_surrogates(["good", "\N{GRINNING FACE}", [1, 2]]) is None
