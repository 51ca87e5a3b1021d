"""The store against the plainest model of one, a dict, over whatever sequences hypothesis thinks of."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_compress.errors import Conflict, Corrupt, InvalidInput, NotFound
from edge_compress.store.blobs import FolderBlobs
from edge_compress.store.interface import ApplyOutcome, Change, Event, UsageKey, UsageTotals
from edge_compress.store.state import open_state

KINDS = st.sampled_from(["Model", "Recipe"])
NAMES = st.sampled_from(["a", "b", "B", "é", "a.b"])
LABELS = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2", '"', "'"]), max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
SPECS = st.dictionaries(st.sampled_from(["p", "q"]), VALUES, max_size=2)


class StoreMachine(RuleBasedStateMachine):
    """``self.model`` maps (kind, name) to what should be stored; ``self.changes`` lists what watchers should have heard."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[tuple[str, str], dict[str, Any]] = {}
        self.changes: list[tuple[Change, str, str]] = []
        self.heard: list[Event] = []
        self.open()

    def open(self) -> None:
        self.store = open_state(self.folder)
        self.store.subscribe(self.heard.append)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(kind=KINDS, name=NAMES, labels=LABELS, spec=SPECS, expected=st.none() | st.integers(0, 3))
    def apply(self, kind: str, name: str, labels: dict[str, str], spec: dict[str, Any], expected: int | None) -> None:
        old = self.model.get((kind, name))
        if expected not in (None, old["generation"] if old else 0):
            with pytest.raises(Conflict):
                self.store.apply(kind, name, labels=labels, spec=spec, expected_generation=expected)
            return
        record, outcome = self.store.apply(kind, name, labels=labels, spec=spec, expected_generation=expected)
        if old is None:
            self.model[kind, name] = {"labels": labels, "spec": spec, "status": {}, "generation": 1}
            self.changes.append((Change.ADDED, kind, name))
            assert outcome is ApplyOutcome.CREATED
        elif repr_of(old["labels"], old["spec"]) != repr_of(labels, spec):
            generation = old["generation"] + (repr_of(old["spec"]) != repr_of(spec))
            old.update(labels=labels, spec=spec, generation=generation)
            self.changes.append((Change.MODIFIED, kind, name))
            assert outcome is ApplyOutcome.CONFIGURED
        else:
            assert outcome is ApplyOutcome.UNCHANGED
        assert record == self.store.get(kind, name)

    @rule(kind=KINDS, name=NAMES, status=SPECS)
    def set_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        old = self.model.get((kind, name))
        if old is None:
            with pytest.raises(NotFound):
                self.store.set_status(kind, name, status)
            return
        self.store.set_status(kind, name, status)
        if repr_of(old["status"]) != repr_of(status):
            old["status"] = status
            self.changes.append((Change.MODIFIED, kind, name))

    @rule(kind=KINDS, names=st.sets(NAMES), status=SPECS)
    def set_statuses(self, kind: str, names: set[str], status: dict[str, Any]) -> None:
        gone = self.store.set_statuses(kind, dict.fromkeys(sorted(names), status))
        assert gone == {name for name in names if (kind, name) not in self.model}
        for name in sorted(names - gone):
            old = self.model[kind, name]
            if repr_of(old["status"]) != repr_of(status):
                old["status"] = status
                self.changes.append((Change.MODIFIED, kind, name))

    @rule(kind=KINDS, name=NAMES)
    def delete(self, kind: str, name: str) -> None:
        if self.model.pop((kind, name), None) is None:
            with pytest.raises(NotFound):
                self.store.delete(kind, name)
            return
        self.store.delete(kind, name)
        self.changes.append((Change.DELETED, kind, name))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @rule(kind=KINDS, size=st.integers(1, 4), labels=LABELS)
    def page_through(self, kind: str, size: int, labels: dict[str, str]) -> None:
        wanted = [
            name for at, name in sorted(self.model) if at == kind and labels.items() <= self.model[at, name]["labels"].items()
        ]
        seen, token = [], ""
        while True:
            page = self.store.list(kind, page_size=size, page_token=token, labels=labels)
            seen += [record.name for record in page.records]
            token = page.next_token
            if not token:
                break
        assert seen == wanted

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        records = [record for kind in ("Model", "Recipe") for record in self.store.list(kind).records]
        stored = {
            (r.kind, r.name): {"labels": r.labels, "spec": r.spec, "status": r.status, "generation": r.generation}
            for r in records
        }
        assert repr_of(stored) == repr_of(self.model)

    @invariant()
    def tells_every_change_once(self) -> None:
        if not hasattr(self, "model"):
            return
        events = self.store.events(["Model", "Recipe"], 0)
        assert list(events) == self.heard
        assert [(event.change, event.record.kind, event.record.name) for event in events] == self.changes
        assert [event.record.revision for event in events] == list(range(1, self.store.revision() + 1))


def repr_of(*values: Any) -> str:
    """Text that tells 1 from True and 1.0, and does not depend on the order of keys."""
    return repr([sorted_keys(value) for value in values])


def sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return ("object", [(key, sorted_keys(value[key])) for key in sorted(value)])  # {} is not []
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestStoreMachine = StoreMachine.TestCase


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_usage_ends_the_same_in_every_order_and_with_every_repeat(data: st.DataObject) -> None:
    reports = [
        (UsageKey(device, "boot", "p", "m", "v"), UsageTotals({"ok": count}, duration_sum=count / 2))
        for device in ("d1", "d2")
        for count in data.draw(st.sets(st.integers(0, 1000), min_size=1, max_size=6))
    ]
    arrivals = data.draw(st.permutations(reports + data.draw(st.lists(st.sampled_from(reports)))))
    cut = data.draw(st.integers(0, len(arrivals)))
    with tempfile.TemporaryDirectory() as folder:
        store = open_state(Path(folder))
        store.put_usage(arrivals[:cut])
        store.put_usage(arrivals[cut:])
        kept = dict(store.usage())
        store.close()
    assert kept == {
        key: max((totals for other, totals in reports if other == key), key=lambda totals: totals.inferences["ok"])
        for key, _ in reports
    }


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), pieces=st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 120)), max_size=12))
def test_an_upload_is_the_blob_or_an_error_never_anything_else(data: bytes, pieces: list[tuple[int, int]]) -> None:
    """Pieces go to the right place or a little beside it; only those that follow on are taken."""
    digest = hashlib.sha256(data).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        blobs, sent = FolderBlobs(Path(folder)), bytearray()
        for beside, size in pieces:
            offset = len(sent) + beside
            piece = data[len(sent) : len(sent) + size]
            if beside:
                with pytest.raises(InvalidInput):
                    blobs.append(digest, offset, piece)
            else:
                sent += piece
                assert blobs.append(digest, offset, piece) == len(sent)
            assert blobs.partial(digest) == len(sent)
        if bytes(sent) == data:
            blobs.append(digest, len(sent), b"")
            blobs.commit(digest)
            assert blobs.path(digest).read_bytes() == data
        else:
            with pytest.raises((Corrupt, NotFound)):
                blobs.commit(digest)
            assert not blobs.has(digest)
