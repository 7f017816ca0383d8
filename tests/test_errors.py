import copy
import pickle

import pytest

from medsam.errors import Cancelled, InputError, MedSAMError, SeveralSeries


def test_an_error_says_which_argument_to_change():
    error = InputError("Leave `frame` out.", parameter="frame")
    assert (error.parameter, error.parameters, str(error)) == ("frame", ("frame",), "Leave `frame` out.")
    assert InputError("`test` and `val`", parameter=("test", "val")).parameter == "test"
    assert (InputError("a.nii is empty.").parameter, Cancelled().parameters) == (None, ())


def test_where_it_happened_leads_the_message_and_all_else_stays():
    error = SeveralSeries("two", parameter="series").within("Case 3, image")
    assert (type(error), str(error), error.parameter) == (SeveralSeries, "Case 3, image: two", "series")


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_reach_another_process_whole(again):
    for error in (InputError("no", parameter=("a", "b")), Cancelled()):
        other = again(error)
        assert (type(other), str(other), other.parameters) == (type(error), str(error), error.parameters)


def test_control_characters_are_shown():
    assert str(MedSAMError("a\x1b[2Jb")) == "a\\x1b[2Jb"
