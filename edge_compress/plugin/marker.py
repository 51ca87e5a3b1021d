"""The mark of a function that implements a hook, without pluggy: agents load plugins too, and pluggy would cost them memory.

What a mark means is pluggy's business; ``registry`` has it read these.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

PROJECT = "edge_compress"
_OPTIONS = {"wrapper": False, "hookwrapper": False, "optionalhook": False, "tryfirst": False, "trylast": False, "specname": None}


@overload
def hookimpl(function: F) -> F: ...


@overload
def hookimpl(function: None = None, **options: Any) -> Callable[[F], F]: ...


def hookimpl(function: F | None = None, **options: Any) -> F | Callable[[F], F]:
    """Mark a function or method as the implementation of the hook of its name, as ``pluggy.HookimplMarker`` would."""
    if unknown := options.keys() - _OPTIONS.keys():
        raise TypeError(f"hookimpl has no option {min(unknown)!r}")
    if function is None:
        return functools.partial(_marked, options)
    return _marked(options, function)


def _marked(options: dict[str, Any], function: F) -> F:
    setattr(function, f"{PROJECT}_impl", {**_OPTIONS, **options})
    return function
