"""Settings: in range or an error, and the same settings have the same digest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosr_core.errors import SettingsError
from audiosr_core.settings import KNOBS, Settings, settings_from

NUMBERS = [name for name, one in KNOBS.items() if not one.is_text]


@pytest.mark.parametrize("name", NUMBERS)
def test_the_ends_are_in_and_what_is_beyond_is_out(name):
    one = KNOBS[name]
    for value in (one.minimum, one.maximum, *one.words, str(one.maximum)):
        Settings().replace(**{name: value})
    for value in (one.minimum - 1, one.maximum + 1, "nan", "inf", "", None, True, [], "x"):
        with pytest.raises(SettingsError, match=name):
            Settings().replace(**{name: value})


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_has_help(name):
    assert KNOBS[name].help


@given(st.sampled_from(NUMBERS), st.floats())
def test_any_number_is_kept_or_refused(name, value):
    one = KNOBS[name]
    try:
        kept = getattr(Settings().replace(**{name: value}), name)
    except SettingsError:
        return
    assert one.minimum <= kept <= one.maximum
    assert kept == value


def test_round_trip_digest_and_unknown():
    some = Settings(seed=3, cutoff="follow", mix=0.5)
    assert settings_from(some.as_dict()) == some
    assert settings_from(some.as_dict()).digest() == some.digest() != Settings().digest()
    with pytest.raises(SettingsError, match="nope"):
        settings_from({"nope": 1})
