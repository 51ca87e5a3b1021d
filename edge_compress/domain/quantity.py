"""Quantities as people write them (``64Mi``, ``200ms``, ``2W``) and the numbers in base units that the product reckons in.

``format`` is the exact inverse of ``parse``, so that what was declared can be shown again unchanged.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from edge_compress.errors import InvalidSpec

_LONGEST_TEXT = 100
_BEYOND_ANY = 1e30
_NUMBER = re.compile(r"^\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*$")


@dataclass(frozen=True)
class Quantity:
    """One kind of quantity.

    ``units`` maps a suffix to how many base units it is worth, largest first; ``example`` shows how to write it;
    ``wire`` is the suffix of the field on the wire, which always carries base units.
    """

    name: str
    units: tuple[tuple[str, Fraction], ...]
    example: str
    wire: str
    whole: bool = False
    bare: bool = False
    maximum: float = math.inf

    def parse(self, value: object, field: str) -> float | int:
        """Read ``value`` (text, or a number where ``bare``) as base units. Raises InvalidSpec naming ``field``."""
        number, unit = self._split(value, field)
        factor = dict(self.units).get(unit)
        if factor is None or (unit == "" and not self.bare and number != 0):
            known = ", ".join(name for name, _ in self.units if name)
            raise InvalidSpec.at(field, value, f"a {self.name} like {self.example}", f"give a unit, one of {known}")
        amount = number * factor
        if amount < 0:
            raise InvalidSpec.at(field, value, f"a {self.name} of zero or more, like {self.example}")
        if amount > self.maximum:
            raise InvalidSpec.at(field, value, f"a {self.name} of at most {self.format(self.maximum)}")
        if self.whole:
            if amount.denominator != 1:
                raise InvalidSpec.at(field, value, f"a whole number of base units, like {self.example}")
            return int(amount)
        return float(amount)

    def format(self, amount: float) -> str:
        """Write ``amount`` base units in the largest unit that keeps it exact and at least one."""
        exact = Fraction(amount) if self.whole else Fraction(repr(float(amount)))
        for unit, factor in self.units:
            scaled = exact / factor
            if abs(scaled) >= 1 or (factor == 1 and exact == 0):
                text = _short(scaled)
                if text is not None and (unit or self.bare):
                    return f"{text}{unit}"
        base = next(unit for unit, factor in self.units if factor == 1 and (unit or self.bare))
        return f"{amount!r}{base}"

    def _split(self, value: object, field: str) -> tuple[Fraction, str]:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise InvalidSpec.at(field, value, f"a {self.name} like {self.example}")
        if isinstance(value, (int, float)):
            if not abs(value) < _BEYOND_ANY:  # NaN included; and Python refuses to write out, or read, thousands of digits
                raise InvalidSpec.at(field, value, f"a finite {self.name} like {self.example}")
            return Fraction(repr(value)), ""
        match = _NUMBER.match(value) if len(value) <= _LONGEST_TEXT else None
        if match is None:
            raise InvalidSpec.at(field, value, f"a {self.name} like {self.example}")
        if abs(int(re.split("[eE]", match[1])[1]) if re.search("[eE]", match[1]) else 0) > 400:
            raise InvalidSpec.at(field, value, f"a {self.name} like {self.example}")
        return Fraction(match[1]), match[2]


def _short(value: Fraction) -> str | None:
    """``value`` in decimal when it has at most six places, else None."""
    scaled = value * 10**6
    if scaled.denominator != 1:
        return None
    if value.denominator == 1:
        return str(value.numerator)
    text = f"{scaled.numerator:+08d}"
    sign = "-" if text[0] == "-" else ""
    digits = text[1:].rjust(7, "0")
    return (sign + digits[:-6] + "." + digits[-6:]).rstrip("0")


def _units(**factors: str) -> tuple[tuple[str, Fraction], ...]:
    named = [(name, Fraction(text)) for name, text in factors.items()]
    return tuple(sorted(named, key=lambda item: -item[1]))


def _scaled(unit: str, *prefixes: str, per: str = "") -> tuple[tuple[str, Fraction], ...]:
    worth = {"P": "1e15", "T": "1e12", "G": "1e9", "M": "1e6", "k": "1e3", "": "1", "m": "1e-3", "u": "1e-6", "n": "1e-9"}
    return tuple((f"{prefix}{unit}{per}", Fraction(worth[prefix])) for prefix in prefixes)


_BYTE_UNITS = tuple(
    sorted(
        [(f"{p}i", Fraction(1024**n)) for n, p in enumerate(("K", "M", "G", "T"), start=1)]
        + [(p, Fraction(1000**n)) for n, p in enumerate(("k", "M", "G", "T"), start=1)]
        + [("", Fraction(1))],
        key=lambda item: -item[1],
    )
)

BYTES = Quantity("size", _BYTE_UNITS, "64Mi", "bytes", whole=True, bare=True, maximum=2**50)
SECONDS = Quantity(
    "duration",
    (*_units(h="3600", m="60", s="1", ms="1/1000", us="1/1000000"), ("", Fraction(1))),
    "200ms",
    "seconds",
    maximum=366 * 24 * 3600,
)
WATTS = Quantity("power", (*_scaled("W", "k", "", "m", "u"), ("", Fraction(1))), "2W", "watts", maximum=1e6)
JOULES = Quantity("energy", (*_scaled("J", "k", "", "m", "u"), ("", Fraction(1))), "15mJ", "joules", maximum=1e9)
RATE = Quantity(
    "rate", (*_units(**{"/s": "1", "/m": "1/60", "/h": "1/3600"}), ("", Fraction(1))), "5/s", "per_second", maximum=1e9
)
BITRATE = Quantity("bit rate", (*_scaled("bit", "G", "M", "k", ""), ("", Fraction(1))), "1Mbit", "bits_per_second", maximum=1e13)
FLOPS = Quantity(
    "arithmetic rate", (*_scaled("FLOPS", "P", "T", "G", "M", "k", ""), ("", Fraction(1))), "8GFLOPS", "per_second", maximum=1e18
)
OPS = Quantity(
    "arithmetic rate", (*_scaled("OPS", "P", "T", "G", "M", "k", ""), ("", Fraction(1))), "16GOPS", "per_second", maximum=1e18
)
BANDWIDTH = Quantity(
    "memory bandwidth",
    (*_scaled("B", "T", "G", "M", "k", "", per="/s"), ("", Fraction(1))),
    "4GB/s",
    "bytes_per_second",
    maximum=1e15,
)
SHARE = Quantity("share", (("", Fraction(1)), ("%", Fraction(1, 100))), "10%", "ratio", bare=True, maximum=1.0)
