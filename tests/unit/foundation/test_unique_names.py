"""Names of series and acquisitions."""

from __future__ import annotations

from streamptycho.naming import KNOWN_NAMES, UniqueNames


def test_a_name_that_comes_again_is_made_different():
    names = UniqueNames()
    assert [names.unique(name) for name in ("1", "2", "1", "1", "2")] == ["1", "2", "1#2", "1#3", "2#2"]


def test_only_the_newest_names_are_remembered():
    names = UniqueNames()
    for number in range(2 * KNOWN_NAMES):
        assert names.unique(str(number)) == str(number)
        names.unique("again")
    assert names.unique("again") == f"again#{2 * KNOWN_NAMES + 1}"
    assert names.unique(str(2 * KNOWN_NAMES - 1)).endswith("#2")
    assert names.unique("0") == "0"
    assert len(names._times) == KNOWN_NAMES
