"""Logs that are turned over: nothing that still has a file is lost, and who follows sees every line."""

from __future__ import annotations

import threading

import pytest

from minidock.containers import lifecycle, log_reader, logs
from minidock.containers.logs import LogFile
from minidock.errors import Conflict, InvalidInput


def fill(path, lines: int, **options) -> None:
    log = LogFile(path, **options)
    for number in range(lines):
        log.write(1, b"line %d\n" % number)
    log.close()


def texts(entries) -> list[str]:
    return [text.decode().rstrip("\n") for _, text, _ in entries]


def test_a_full_file_is_turned_over(tmp_path):
    path = tmp_path / "log.json"
    fill(path, 1000, max_size=10_000, max_file=3)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.json", "log.json.1", "log.json.2"]
    assert all(each.stat().st_size < 10_200 for each in tmp_path.iterdir())
    kept = texts(log_reader.read(path))
    assert kept == [f"line {number}" for number in range(1000 - len(kept), 1000)]
    assert len(kept) > 200


def test_one_file_begins_again(tmp_path):
    path = tmp_path / "log.json"
    fill(path, 1000, max_size=10_000, max_file=1)
    assert [each.name for each in tmp_path.iterdir()] == ["log.json"]
    assert texts(log_reader.read(path))[-1] == "line 999"


@pytest.mark.parametrize("count", [1, 100, 150, 250])
def test_the_tail_reaches_into_older_files(tmp_path, count):
    path = tmp_path / "log.json"
    fill(path, 1000, max_size=10_000, max_file=5)
    kept = texts(log_reader.read(path))
    assert texts(log_reader.read(path, tail=count)) == kept[-count:]


def test_who_follows_sees_every_line_over_many_files(tmp_path):
    path = tmp_path / "log.json"
    log = LogFile(path, max_size=2000, max_file=4)
    more, seen = threading.Semaphore(0), []
    step = threading.Semaphore(0)

    def wait() -> bool:
        step.release()
        more.acquire()
        return not done

    done = False
    follower = threading.Thread(target=lambda: seen.extend(texts(log_reader.read(path, wait=wait))))
    follower.start()
    for number in range(500):
        log.write(1, b"line %d\n" % number)
        if number % 10 == 0:  # it keeps up: never more than three files behind
            step.acquire()
            more.release()
    done = True
    log.close()
    while follower.is_alive():
        more.release()
        follower.join(0.01)
    assert seen == [f"line {number}" for number in range(500)]


def test_a_container_with_a_small_log(box):
    options = {"max-size": "4k", "max-file": "3"}
    ran = box.sh("for i in $(seq 300); do echo line $i; done", log_options=options)
    assert len(ran.lines) == 300
    names = sorted(each.name for each in ran.container.directory.glob("log.json*"))
    assert names == ["log.json", "log.json.1", "log.json.2"]
    assert texts(lifecycle.read_logs(ran.container))[-1] == "line 300"


def test_no_log_at_all(box):
    ran = box.sh("echo shown", log_driver="none")
    assert ran.out == b"shown\n"
    assert not list(ran.container.directory.glob("log.json*"))
    with pytest.raises(Conflict, match="does not support reading"):
        list(lifecycle.read_logs(ran.container))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, "unknown log opt 'colour' for json-file log driver"),
        ({"max-file": "0"}, "max-file cannot be less than 1"),
        ({"max-file": "many"}, "is no number"),
        ({"max-size": "big"}, "invalid size"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(InvalidInput, match=words):
        logs.check_options(options)
