"""YAML files: whatever values are written come back."""

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.yaml_words import WORDS

from flax_agnews.system.files import dump_yaml, parse_yaml

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]))
    | st.sampled_from(
        [*WORDS, "true", "~", "1e3", "1.", ".5", "0x1", "1_0", "2020-01-01", "12:30", "=", "<<", "y", "n"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(plain)
def test_any_value_comes_back(value: Any) -> None:
    """From the loader of this library, and from PyYAML's own."""
    text = dump_yaml(value)
    assert parse_yaml(text) == value
    assert yaml.safe_load(text) == value
