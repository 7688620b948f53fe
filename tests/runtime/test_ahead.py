"""Work is begun ahead, and looked at in turn."""

import threading
import time
from functools import partial

import pytest

from tsds_jax.errors import InputError
from tsds_jax.runtime.ahead import ahead, one_behind, side_by_side


def test_items_are_made_on_another_thread_at_most_two_in_advance_and_their_error_comes_in_turn():
    made, seen = [], []

    def items():
        for number in range(5):
            made.append(threading.get_ident())
            yield number
        raise InputError("row 5")

    def look():
        for number in ahead(items()):
            time.sleep(0.02)
            assert len(made) <= number + 3
            seen.append(number)

    with pytest.raises(InputError, match="row 5"):
        look()
    assert seen == list(range(5))
    assert threading.get_ident() not in made


def test_calls_are_made_two_at_a_time_and_looked_at_in_their_order_and_their_error_comes_in_turn():
    both, seen = threading.Barrier(2, timeout=10), []

    def call(number):
        both.wait()  # passes only if the neighbour is being made at the same time
        time.sleep(0.02 * (number % 2 == 0))
        if number == 7:
            raise InputError("row 7")
        return number

    def look():
        for number in side_by_side((partial(call, number) for number in range(8)), 2):
            seen.append(number)

    with pytest.raises(InputError, match="row 7"):
        look()
    assert seen == list(range(7))


@pytest.mark.parametrize("slow", [0.0, 0.02])
def test_when_nobody_looks_any_more_as_many_calls_are_made_whoever_is_faster(slow):
    made = []
    looking = side_by_side((partial(lambda number: time.sleep(slow) or made.append(number), k) for k in range(100)), 2)
    next(looking)
    time.sleep(0.05 - 2 * slow)
    looking.close()
    assert sorted(made) == [0, 1, 2]


def test_an_item_is_looked_at_when_the_next_has_been_made():
    made = []
    seen = [(number, list(made)) for number in one_behind(made.append(number) or number for number in range(3))]
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
