"""The demo's processes: real ones, really killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from edge_compress.demo.cast import MARKER, Cast, free_address, processes_of, until
from edge_compress.errors import StartupError

SLEEPER = "import time; print('up', flush=True); time.sleep(120)"
GRANDPARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)']); time.sleep(120)"
)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(120)"
PLAYS_AND_WAITS = """
import sys, time
from pathlib import Path
from edge_compress.demo.cast import Cast
cast = Cast(Path(sys.argv[1]))
cast.command = lambda *arguments: [sys.executable, "-c", *arguments]
cast.start("sleeper", "import time; time.sleep(120)")
print("started", flush=True)
time.sleep(120)
"""


class PythonCast(Cast):
    """A cast whose processes are snippets of Python."""

    def command(self, *arguments):
        return [sys.executable, "-c", *arguments]


def eventually(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def said(cast, name):
    return cast.last_words(name) == "up"


def test_close_ends_every_process(tmp_path):
    with PythonCast(tmp_path) as cast:
        cast.start("one", SLEEPER)
        cast.start("two", SLEEPER)
        eventually(lambda: said(cast, "one") and said(cast, "two"))
        assert len(processes_of(tmp_path)) == 2
    assert processes_of(tmp_path) == []
    assert cast.strays == []


def test_an_error_in_the_block_ends_them_too(tmp_path):
    def interrupted():
        with PythonCast(tmp_path) as cast:
            cast.start("one", SLEEPER)
            eventually(lambda: said(cast, "one"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert processes_of(tmp_path) == []


def test_one_that_ignores_the_request_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_compress.demo.cast.STOP_SECONDS", 0.3)
    with PythonCast(tmp_path) as cast:
        cast.start("stubborn", STUBBORN)
        eventually(lambda: said(cast, "stubborn"))
    assert processes_of(tmp_path) == []


def test_grandchildren_left_behind_are_found_killed_and_told(tmp_path):
    with PythonCast(tmp_path) as cast:
        cast.start("grandparent", GRANDPARENT)
        eventually(lambda: len(processes_of(tmp_path)) == 2)
    assert len(cast.strays) == 1
    eventually(lambda: processes_of(tmp_path) == [])


def test_they_die_with_a_director_that_is_killed(tmp_path):
    director = subprocess.Popen([sys.executable, "-c", PLAYS_AND_WAITS, str(tmp_path)], stdout=subprocess.PIPE)
    assert director.stdout.readline() == b"started\n"
    eventually(lambda: len(processes_of(tmp_path)) == 2)
    director.send_signal(signal.SIGKILL)
    director.wait()
    director.stdout.close()
    eventually(lambda: processes_of(tmp_path) == [])


def test_check_tells_who_ended_and_its_last_words(tmp_path):
    with PythonCast(tmp_path) as cast:
        cast.start("brief", "import sys; print('error: no port', file=sys.stderr); sys.exit(3)")
        with pytest.raises(StartupError, match="brief ended with 3: error: no port"):
            eventually(lambda: cast.check() is not None)


def test_settings_of_the_user_do_not_leak_in(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_COMPRESS_STATE", "/precious")
    with PythonCast(tmp_path) as cast:
        cast.start("env", f"import os; print(os.environ.get('EDGE_COMPRESS_STATE'), os.environ['{MARKER}'])")
        eventually(lambda: cast.last_words("env") == f"None {tmp_path}")


def test_the_command_is_edge_compress(tmp_path):
    with Cast(tmp_path) as cast:
        assert cast.command("server") == [sys.executable, "-m", "edge_compress", "server"]


def test_until_gives_up_with_what_it_waited_for():
    until(time.monotonic() + 60, "nothing")
    with pytest.raises(StartupError, match="waited too long for the moon"):
        until(time.monotonic() - 1, "the moon")


def test_a_free_address_can_be_listened_on():
    host, port = free_address().split(":")
    assert host == "127.0.0.1"
    assert 1024 <= int(port) < 65536


def test_processes_of_never_names_the_asker(tmp_path):
    assert os.getpid() not in processes_of(tmp_path)
