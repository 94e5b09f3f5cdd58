"""The servers of the tests do what tests rely on: conditions, and their end with whoever started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from children import ended, kill_forks, said
from servers import Answer, Server, free_port, installed, running, start_proxy
from servers.processes import end

obstore = pytest.importorskip("obstore")
Refused = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)


def clean(found: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in found.items() if name in ("e_tag", "version") and value is not None}


def test_what_a_server_does_with_conditions(object_server: Server) -> None:
    store = object_server.make_store(retry_config={"max_retries": 0})
    key = f"{object_server.fresh_url()}/a".rsplit("zarrant/", 1)[1]
    first = clean(store.put(key, b"1", mode="create", attributes={"zarrant_writes": "w1"}))
    with pytest.raises(Refused):
        store.put(key, b"2", mode="create")
    second = clean(store.put(key, b"2", mode=first))
    with pytest.raises(Refused):
        store.put(key, b"3", mode=first)
    found = store.get(key)
    assert (bytes(found.bytes()), clean(found.meta)) == (b"2", second)
    assert [entry["path"] for page in store.list(prefix=key.rsplit("/", 1)[0]) for entry in page] == [key]
    if object_server.get_if_match:
        with pytest.raises(obstore.exceptions.PreconditionError):
            store.get(key, options={"if_match": first["e_tag"]})
    store.delete(key)
    with pytest.raises(FileNotFoundError):
        store.head(key)


def test_attributes_are_kept(object_server: Server) -> None:
    store = object_server.make_store()
    key = object_server.fresh_url().rsplit("/", 1)[1]
    store.put(key, b"1", attributes={"zarrant_writes": "w1"})
    assert store.get(key).attributes.get("zarrant_writes") == "w1"


def test_one_ignores_conditions(no_conditions: Server) -> None:
    store = no_conditions.make_store()
    key = no_conditions.fresh_url().rsplit("/", 1)[1]
    for value in (b"1", b"2"):
        store.put(key, value, mode="create")
    assert bytes(store.get(key).bytes()) == b"2"


def test_the_proxy_fails_as_it_is_told(moto: Server) -> None:
    answers = iter([Answer(403, "AccessDenied"), Answer(lose_reply=True), Answer(503, "SlowDown"), None])
    with start_proxy(moto, lambda request: next(answers)) as proxy:
        store = proxy.server.make_store(retry_config={"max_retries": 0})
        key = moto.fresh_url().rsplit("/", 1)[1]
        for kind in (obstore.exceptions.PermissionDeniedError, obstore.exceptions.GenericError, obstore.exceptions.GenericError):
            with pytest.raises(kind):
                store.put(key, b"1")
        assert bytes(store.get(key).bytes()) == b"1"  # the reply was lost, not the request
        assert [request.method for request in proxy.requests] == ["PUT", "PUT", "PUT", "GET"]


def test_redis_answers(redis_url: str) -> None:
    redis = pytest.importorskip("redis")
    assert redis.Redis.from_url(redis_url).ping()


def test_what_is_missing_is_skipped_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"no-such-server is not installed; scripts/servers.sh no-such-server"):
        installed("no-such-server")


def falls_silent(port: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_server_ends_with_whoever_started_it(tmp_path: Path, how: signal.Signals) -> None:
    code = """
        import signal, sys, time
        from servers import running, free_port
        signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background is started without it
        port = free_port()
        with running([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port], port):
            print(port, flush=True)
            time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment,
    )
    assert starter.stdout is not None
    port = int(starter.stdout.readline())
    starter.send_signal(how)
    starter.communicate()
    assert falls_silent(port)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_server_ends_beside_a_forked_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has inherited the pipe whose end tells the guardian that we ended."""
    monkeypatch.setattr("servers.processes.end", partial(end, within=0.5))
    port, children = free_port(), list[int]()
    try:
        with running([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port], port):
            children.append(os.fork())
            if children == [0]:
                signal.pause()
        assert falls_silent(port)
    finally:
        os.kill(children[0], signal.SIGKILL)
        ended(children[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_that_hangs_is_killed_and_told() -> None:
    for wait in (lambda child, reading: ended(child, within=0.1), lambda child, reading: said(child, reading, within=0.1)):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.pause()
        os.close(writing)
        with pytest.raises(AssertionError, match=f"process {child} did not end within"):
            wait(child, reading)
        with pytest.raises(ChildProcessError):
            os.waitpid(child, 0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of the processes that one has started")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_are_killed_and_programs_are_not() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        kill_forks()
        assert os.waitstatus_to_exitcode(ended(child)) == -signal.SIGKILL
        assert program.communicate(b"\n") == (None, None) and program.returncode == 0
