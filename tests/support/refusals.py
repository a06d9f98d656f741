"""The one line that a call is refused with."""

from typing import Any

import pytest

from flax_agnews.errors import UserError


def refused(call: Any, *arguments: Any, **named: Any) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    assert str(caught.value).isprintable()
    return caught.value.with_flags
