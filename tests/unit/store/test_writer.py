"""The writing thread: what shares a transaction, and what does not share a fate."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edge_compress.errors import Conflict, StorageFull, Unavailable
from edge_compress.store.connections import connect
from edge_compress.store.interface import Event
from edge_compress.store.writer import Writer, Written


class Bench:
    """A writer on a database with one table, held up at will so that what waits is known."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)
        self.connection.execute("CREATE TABLE word (text TEXT UNIQUE)")
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)
        self.published: list[Sequence[Event]] = []
        self.writer = Writer(self.connection, path, self.published.append)
        self.pool = ThreadPoolExecutor(32)

    def together(self, *works: Callable[[sqlite3.Connection], Written[Any]]) -> list[Future[Any]]:
        """Have ``works`` wait for one another, then go; their order is that of the arguments."""
        go = threading.Event()
        held = self.pool.submit(self.writer.run, lambda connection: Written(go.wait(10)))
        self._wait(lambda: any(text.startswith("SAVEPOINT") for text in self.statements))
        answers = []
        for number, work in enumerate(works, start=1):
            answers.append(self.pool.submit(self.writer.run, work))
            self._wait(lambda number=number: self.writer._waiting.qsize() == number)
        self.statements.clear()
        go.set()
        assert held.result(10)
        for answer in answers:
            answer.exception(10)
        return answers

    def words(self) -> list[str]:
        return [row["text"] for row in self.connection.execute("SELECT text FROM word ORDER BY rowid")]

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "words.db")
    yield bench
    bench.writer.close()
    bench.pool.shutdown()


def say(text: str) -> Callable[[sqlite3.Connection], Written[str]]:
    def work(connection: sqlite3.Connection) -> Written[str]:
        connection.execute("INSERT INTO word VALUES (?)", (text,))
        return Written(text)

    return work


def say_then_fail(connection: sqlite3.Connection) -> Written[str]:
    connection.execute("INSERT INTO word VALUES ('half')")
    raise Conflict("no")


def test_what_waits_shares_one_transaction_and_keeps_its_order(bench: Bench) -> None:
    answers = bench.together(say("a"), say("b"), say("c"))
    assert [answer.result() for answer in answers] == ["a", "b", "c"]
    assert bench.words() == ["a", "b", "c"]
    assert bench.statements.count("COMMIT") == 2  # the one that held the others up, and theirs


def test_nobody_hears_of_a_write_before_it_is_committed(bench: Bench) -> None:
    committing, go = threading.Event(), threading.Event()

    def hold_the_commit(statement: str) -> None:
        if statement == "COMMIT":
            committing.set()
            go.wait(10)

    bench.connection.set_trace_callback(hold_the_commit)
    answer = bench.pool.submit(bench.writer.run, say("a"))
    assert committing.wait(10)
    with pytest.raises(TimeoutError):
        answer.result(0.2)
    assert bench.published == []
    go.set()
    assert answer.result(10) == "a"
    assert bench.published == [[]]


def test_a_failure_undoes_itself_only(bench: Bench) -> None:
    answers = bench.together(say("a"), say_then_fail, say("c"))
    assert isinstance(answers[1].exception(), Conflict)
    assert bench.words() == ["a", "c"]
    assert bench.statements.count("COMMIT") == 2


def test_an_error_of_the_database_goes_to_its_own_caller(bench: Bench) -> None:
    answers = bench.together(say("a"), say("a"), say("b"))
    assert isinstance(answers[1].exception(), sqlite3.IntegrityError)
    assert bench.words() == ["a", "b"]


def test_when_the_whole_transaction_is_lost_each_is_tried_alone(bench: Bench) -> None:
    def lose(connection: sqlite3.Connection) -> Written[None]:
        connection.execute("ROLLBACK")  # what SQLite does by itself on some faults
        raise sqlite3.OperationalError("lost")

    answers = bench.together(say("a"), lose, say("b"))
    assert isinstance(answers[1].exception(), sqlite3.OperationalError)
    assert [answers[0].result(), answers[2].result()] == ["a", "b"]
    assert bench.words() == ["a", "b"]


def test_a_full_database_refuses_the_big_one_only(bench: Bench) -> None:
    bench.connection.execute("PRAGMA max_page_count=8")
    answers = bench.together(say("a"), say("x" * 100_000), say("b"))
    assert isinstance(answers[1].exception(), StorageFull)
    assert bench.words() == ["a", "b"]
    bench.connection.execute("PRAGMA max_page_count=1000")
    assert bench.writer.run(say("y" * 100_000)) == "y" * 100_000


def test_close_finishes_what_was_begun_and_refuses_the_rest(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "words.db")
    go, begun = threading.Event(), threading.Event()
    held = bench.pool.submit(bench.writer.run, lambda connection: Written((begun.set(), go.wait(10))[1]))
    assert begun.wait(10)
    waiting = bench.pool.submit(bench.writer.run, say("a"))
    bench._wait(lambda: bench.writer._waiting.qsize() == 1)
    closing = bench.pool.submit(bench.writer.close)
    go.set()
    closing.result(10)
    assert (held.result(10), waiting.result(10)) == (True, "a")
    with pytest.raises(Unavailable, match="closed"):
        bench.writer.run(say("b"))
    bench.writer.close()
    bench.pool.shutdown()
