"""Looks again and again at what devices report, and keeps what follows from it for each profile, as ``Calibration`` records.

Level-triggered: each look reads the totals as they are, and goes on from the marks that are stored with what is known, so that a
restart neither loses nor repeats a report. What is kept takes bounded room: of many devices those that chance picks, for medians
need no more, and of many versions the newest. What a report says is decided in ``learning``, what follows in
``domain.calibration``.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_compress.delivery.learning import Heard, Subject, heard
from edge_compress.delivery.totals import together
from edge_compress.domain.artifact import AppliedStep, Measurement, Outcome
from edge_compress.domain.calibration import Corrections, arithmetic, costs_of, learned, median_errors
from edge_compress.domain.schema import decode, encode
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.errors import Conflict, EdgeCompressError
from edge_compress.store.interface import ResourceStore, Store, UsageKey, UsageTotals

KIND = "Calibration"
"""record by profile: its corrections; what they follow from is a note, for it changes with every report"""
_log = logging.getLogger(__name__)
_MOST_DEVICES, _MOST_VERSIONS = 64, 8

Expected = Mapping[tuple[str, str, str], tuple[Measurement, tuple[AppliedStep, ...]]]
"""(profile, model, version) -> what was foretold without corrections, and the steps"""


@dataclass(frozen=True)
class Known:
    """What devices of a profile were heard to say. Durable."""

    heard: tuple[Heard, ...] = ()


class Calibrator:
    """``rows``: the totals of all devices; ``made_for``: device -> the profile that its artifacts are made for; ``needs``:
    strategy -> the precisions that it needs. ``look`` blocks; ``errors`` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        rows: Callable[[], Iterable[tuple[UsageKey, UsageTotals]]],
        made_for: Callable[[], Mapping[str, str]],
        needs: Mapping[str, Sequence[str]],
        *,
        every_seconds: float = 30.0,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._rows, self._made_for, self._needs = store, rows, made_for, needs
        self._every, self._clock = every_seconds, clock
        self._outcomes = OutcomeIndex(store)
        self._known: dict[str, dict[tuple[str, str], Heard]] = {}

    def load(self) -> None:
        """Take up what was stored before; blocks."""
        for profile in corrections_of(self._store):
            known = decode(Known, self._store.note(_note(profile)) or {}).heard
            self._known[profile] = {(one.observed.device, one.observed.version): one for one in known}

    async def run(self) -> None:
        """Look for ever. What fails is logged and tried again at the next turn."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await asyncio.to_thread(self.look)
            except EdgeCompressError as error:
                _log.warning("could not learn from reports, will try again: %s", error)
            except Exception:
                _log.exception("learning from reports broke, will try again")

    def errors(self) -> Mapping[str, float]:
        """Quantity -> the median of how far off predictions were, over devices and artifacts."""
        known = list(self._known.values())
        return median_errors(one.observed for profile in known for one in list(profile.values()))

    def look(self) -> None:
        """Take in what came since the last look, and keep what follows."""
        profiles = {r.name: decode(DeviceProfileSpec, r.spec, "spec") for r in self._store.list("DeviceProfile").records}
        for name in self._known.keys() - profiles.keys():
            self._forget(name)
        expected = self._outcomes.expected()
        for name, rows in self._by_profile(expected).items():
            if name in profiles:
                self._learn(name, self._heard(name, rows, profiles[name].threads, expected))

    def _by_profile(self, expected: Expected) -> dict[str, dict[tuple[str, str, str], list[UsageTotals]]]:
        """Profile -> (device, model, version) -> rows, of what something was foretold of."""
        made_for = self._made_for()
        found: dict[str, dict[tuple[str, str, str], list[UsageTotals]]] = defaultdict(lambda: defaultdict(list))
        for key, row in self._rows():
            profile = made_for.get(key.device, key.profile)
            if (profile, key.model, key.version) in expected:
                found[profile][key.device, key.model, key.version].append(row)
        return {profile: _picked(rows) for profile, rows in found.items()}

    def _heard(
        self, profile: str, rows: Mapping[tuple[str, str, str], Sequence[UsageTotals]], threads: int, expected: Expected
    ) -> dict[tuple[str, str], Heard]:
        before, now = self._known.get(profile, {}), self._clock()
        corrections = self._corrections(profile)
        found = {}
        for (device, model, version), totals in rows.items():
            measured, steps = expected[profile, model, version]
            name = f"{model}/{version}"
            subject = Subject(device, name, arithmetic(steps, self._needs), costs_of(measured, threads))
            one = heard(before.get((device, name)), together(totals), subject, corrections, now)
            if one is not None:
                found[device, name] = one
        return _newest(found)

    def _learn(self, profile: str, known: dict[tuple[str, str], Heard]) -> None:
        """Keep what is known, durably first; nothing is written where nothing was heard."""
        if known == self._known.get(profile, {}):
            return
        self._store.put_note(_note(profile), encode(Known(tuple(known[key] for key in sorted(known)))))
        self._known[profile] = known
        corrections = self._corrections(profile)
        if profile not in (told := corrections_of(self._store)) or not corrections.near(told[profile]):
            self._store.apply(KIND, profile, labels={}, spec=encode(corrections))

    def _corrections(self, profile: str) -> Corrections:
        return learned(one.observed for one in self._known.get(profile, {}).values())

    def _forget(self, profile: str) -> None:
        self._store.delete(KIND, profile)
        self._store.put_note(_note(profile), None)
        del self._known[profile]


class OutcomeIndex:
    """What outcomes foretold of every candidate, read anew only when one came or went: they are large and rarely change."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._seen = 0
        self._expected: dict[tuple[str, str, str], tuple[Measurement, tuple[AppliedStep, ...]]] = {}

    def expected(self) -> Expected:
        """Of every candidate that was measured, by its profile, model and version; the newest outcome counts."""
        revision = self._store.revision()
        if self._changed():
            records = sorted(self._store.list("Outcome").records, key=lambda record: record.revision)
            self._expected = {}
            for record in records:
                self._expected |= _foretold(decode(Outcome, record.spec, "spec"))
        self._seen = revision
        return self._expected

    def _changed(self) -> bool:
        try:
            return self._seen == 0 or bool(self._store.events(["Outcome"], self._seen, 1))
        except Conflict:
            return True  # too long ago to tell


def _foretold(outcome: Outcome) -> dict[tuple[str, str, str], tuple[Measurement, tuple[AppliedStep, ...]]]:
    measured = [(one, one.uncorrected or one.measurement) for one in outcome.candidates]
    return {
        (outcome.profile, outcome.model, plain.sha256[:12]): (plain, one.steps)
        for one, plain in measured
        if plain.sha256 and plain.latency is not None
    }


def _picked(rows: Mapping[tuple[str, str, str], list[UsageTotals]]) -> dict[tuple[str, str, str], list[UsageTotals]]:
    """Of each version as many devices as are needed, the same ones each time."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for device, model, version in rows:
        found[model, version].append(device)
    kept = {
        (device, *version)
        for version, devices in found.items()
        for device in sorted(devices, key=lambda name: zlib.crc32(name.encode()))[:_MOST_DEVICES]
    }
    return {key: rows[key] for key in kept}


def _newest(known: dict[tuple[str, str], Heard]) -> dict[tuple[str, str], Heard]:
    """What concerns the versions that were reported last."""
    last: dict[str, float] = defaultdict(float)
    for (_, version), one in known.items():
        last[version] = max(last[version], one.observed.at)
    kept = set(sorted(last, key=lambda version: (-last[version], version))[:_MOST_VERSIONS])
    return {key: one for key, one in known.items() if key[1] in kept}


def _note(profile: str) -> str:
    return f"calibration/{profile}"


def corrections_of(store: ResourceStore) -> dict[str, Corrections]:
    """Profile -> what was learned of it; blocks."""
    return {record.name: decode(Corrections, record.spec, "spec") for record in store.list(KIND).records}
