import pickle

import pytest

from vqclip.loss import Objective
from vqclip.schedules import ever_nonzero, negated, schedule


def test_a_number_is_constant():
    assert [schedule(0.3)(t) for t in (0, 0.5, 1)] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize("shape,middle", [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)])
def test_shapes(shape, middle):
    made = schedule({"start": 1, "end": 0, "shape": shape})
    assert made(0) == 1 and made(0.5) == pytest.approx(middle)
    assert made(1) == pytest.approx(1.0 if shape == "constant" else 0.0)
    values = [made(t / 50) for t in range(51)]
    assert values == sorted(values, reverse=True)


def test_schedules_of_points_steps_exponentials_and_warm_up():
    points = schedule({"points": [[0.2, 1], [0.6, 3], [1, 0]]})
    assert [points(t) for t in (0, 0.2, 0.4, 0.6, 1)] == pytest.approx([1, 1, 2, 3, 0])
    held = schedule({"points": [[0, 1], [0.5, 2]], "shape": "steps"})
    assert [held(t) for t in (0, 0.49, 0.5, 1)] == [1, 1, 2, 2]
    falling = schedule({"start": 1, "end": 0.01, "shape": "exponential"})
    assert falling(0.5) == pytest.approx(0.1)
    warm = schedule({"start": 2, "end": 2, "warmup": 0.5})
    assert [warm(t) for t in (0, 0.25, 0.5, 1)] == [0, 1, 2, 2]
    assert negated(points)(0.6) == pytest.approx(-3)
    assert pickle.loads(pickle.dumps(negated(points)))(0.6) == pytest.approx(-3)  # of an objective, for a callback
    assert ever_nonzero(schedule({"points": [[0, 0], [0.5, 1], [1, 0]]})) and not ever_nonzero(schedule(0))
    assert not ever_nonzero({"start": 0, "end": 1, "shape": "constant"})  # which stays at its start


@pytest.mark.parametrize(
    "wrong",
    [
        *("much", True, None, [1, 0], {"start": 1}, {"start": 1, "end": 0, "shape": "bumpy"}),
        *({"points": [[0.5, 1], [0.2, 1]]}, {"points": [[-0.1, 1], [1, 0]]}, {"points": [[0, 1], [1.5, 0]]}),
        *({"start": 1, "end": 0, "shape": "exponential"}, {"start": -1, "end": 0, "shape": "exponential"}),
        *({"points": []}, {"start": 1, "end": 0, "warmup": 1.5}),
    ],
)
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        schedule(wrong)


class Told:
    """A schedule of one's own that keeps what it was told."""

    def __init__(self, height, note=""):
        self.height, self.note = height, note

    def __call__(self, t):
        return self.height * t


def test_a_class_of_ones_own_gets_its_arguments_as_they_are():
    """A config is resolved once: a text of a record that was escaped to mean itself stays a text."""
    made = schedule({"_target_": f"{__name__}.Told", "height": 2, "note": "${oc.env:HOME}"})
    assert made(0.5) == 1 and made.function.note == "${oc.env:HOME}"


def test_a_weight_of_ones_own_has_the_other_sign_for_what_is_included():
    assert Objective(lambda t: 2 + t, 0, 0).weights["include"](0.5) == -2.5


def test_one_of_ones_own_that_is_nothing_at_both_ends_counts_in_the_middle():
    """It is asked within the run alone."""
    assert ever_nonzero(lambda t: t * (1 - t) if t <= 1 else 0.0)
