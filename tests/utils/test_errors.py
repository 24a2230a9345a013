import pytest

from lop.plan import blame
from lop.utils.errors import LONGEST, MissingDataError, UserError
from lop.utils.ranges import COUNT, DECAY, STEP_SIZE, require, require_all


def test_an_error_knows_its_option_and_takes_the_section_in_front():
    error = UserError("must be > 0, got -1", option="lr")
    assert str(error) == "lr must be > 0, got -1"
    with pytest.raises(UserError) as caught, blame("optimizer"):
        raise error
    assert caught.value.option == "optimizer.lr"
    assert str(caught.value) == "optimizer.lr must be > 0, got -1"


def test_the_words_of_a_message_do_not_matter():
    """Before, the first word was looked up among the options."""
    with pytest.raises(UserError) as caught, blame("optimizer"):
        raise UserError("lr and the rest are not for this net")
    assert (caught.value.option, str(caught.value)) == ("optimizer", "optimizer: lr and the rest are not for this net")
    with pytest.raises(MissingDataError) as caught, blame("benchmark"):
        raise MissingDataError("fetch it", "mnist")
    assert (caught.value.option, caught.value.dataset) == ("benchmark", "mnist")
    with pytest.raises(UserError, match=r"^optimizer: lr is odd$"), blame("optimizer"):
        raise ValueError("lr is odd")


def test_long_lines_lose_their_middle():
    text = str(UserError(f"config {'x' * 10**4}\n{'y' * 10**4}: give another"))
    assert len(text) <= LONGEST
    assert text.startswith("config x")
    assert text.endswith("y: give another")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("allowed", "value", "words"),
    [
        (COUNT, 0, "n must be an integer >= 1, got 0"),
        (COUNT, 1.0, "n must be an integer"),
        (COUNT, True, "n must be an integer"),
        (COUNT, 2**31, "n must be <= 1e"),
        (DECAY, 1.0, "n must be >= 0 and < 1, got 1.0"),
        (DECAY, float("nan"), "n must be >= 0"),
        (STEP_SIZE, 1e308, "n must be <= 1e"),
        (STEP_SIZE, float("inf"), "n must be"),
    ],
)
def test_ranges(allowed, value, words):
    with pytest.raises(UserError) as caught:
        require(allowed, ok=None, n=value)
    assert str(caught.value).startswith(words)
    assert caught.value.option == "n"


def test_ranges_of_lists():
    require_all(COUNT, hidden=[1, 2])
    with pytest.raises(UserError, match=r"^hidden\[1\] must be"):
        require_all(COUNT, hidden=[1, 0])
