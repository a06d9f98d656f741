"""Errors for people: one line, with settings as the library or the command line has them."""

import pickle

import pytest

from flax_agnews.errors import Diverged, Lost, UserError, close_names, flag, nearest


@pytest.mark.parametrize("kind", [UserError, Lost])
def test_settings_are_names_in_the_library_and_flags_in_commands(kind):
    error = kind(f"{flag('train.epochs')} 0: must be 1 or more; or choose another {flag('output')}")
    assert str(error) == "train.epochs 0: must be 1 or more; or choose another output"
    assert error.with_flags == "--train.epochs 0: must be 1 or more; or choose another --output"


def test_an_error_that_quotes_another_keeps_its_settings():
    inner = UserError(f"{flag('data.source')} x: no such file")
    outer = UserError(f"RUN: {inner.message}")
    assert str(outer) == "RUN: data.source x: no such file"
    assert outer.with_flags == "RUN: --data.source x: no such file"


def test_advice_is_not_part_of_the_fault():
    error = UserError(f"{flag('model.name')} x: no such directory", f"Give {flag('model.name')} DIR")
    assert error.fault == "model.name x: no such directory"
    assert error.with_flags == "--model.name x: no such directory. Give --model.name DIR"


def test_diverged():
    error = Diverged(["full seed 42 at step 3"], f"Lower {flag('train.clip_norm')}")
    assert str(error) == "stopped where numbers were not finite: full seed 42 at step 3. Lower train.clip_norm"
    assert error.with_flags.endswith("Lower --train.clip_norm")


def test_control_characters_become_spaces_around_settings():
    error = UserError(f"a\x1b[2J\n{flag('output')} b\r: no")
    assert str(error) == "a [2J output b : no"
    assert error.with_flags == "a [2J --output b : no"


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(UserError(f"{flag('output')} x: no", "Why not")))
    assert (str(error), error.fault) == ("output x: no. Why not", "output x: no")
    assert error.with_flags == "--output x: no. Why not"


def test_nearest_names():
    assert close_names("epoch", ["epochs", "batch_size"]) == ["epochs"]
    assert close_names("xyz", ["epochs"]) == []
    assert nearest("epoch", ["epochs", "batch_size"]) == " Did you mean epochs?"
    assert nearest("epoch", ["epochs"], prefix="--train.") == " Did you mean --train.epochs?"
    assert nearest("xyz", ["b", "a", "c"], most=2, prefix="--") == " Known: --a, --b and 1 more."
    assert nearest("xyz", []) == ""
