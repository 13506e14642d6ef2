"""Reading the log: tail, since, until, follow; and its encoding, against the json module."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as some

from minidock.containers import lifecycle, log_reader, logs, timestamps
from minidock.errors import InvalidInput


@given(
    some.lists(
        some.sampled_from(
            [b"a", b'"', b"\\", b"\n", b"\t", b"\x00", b"\x7f", b"\xff", b"\xc3", b"\xa9", b"<"]
        )
    )
)
def test_encoding_is_json(pieces):
    data = b"".join(pieces)
    lines = logs.encode(data, 1, "now").decode().split("\n")[:-1] if data else []
    values = [json.loads(line) for line in lines]
    assert "".join(value["log"] for value in values) == data.decode(errors="replace")
    assert all("\n" not in value["log"][:-1] for value in values)


def test_long_lines_are_cut_between_characters():
    data = ("é" * 30_000).encode() + b"\n" + b"short\n"
    values = [json.loads(line)["log"] for line in logs.encode(data, 2, "now").splitlines()]
    assert "".join(values).encode() == data
    assert all(len(value.encode()) <= logs.LONGEST for value in values)
    assert "\ufffd" not in "".join(values)


def test_a_long_line_in_many_pieces_stays_whole(tmp_path):
    log = logs.LogFile(tmp_path / "log.json")
    data = ("xé€😀" * 20_000).encode() + b"\n"
    for start in range(0, len(data), 1000):
        log.write(1, data[start : start + 1000])
    log.close()
    assert b"".join(entry[1] for entry in log_reader.read(tmp_path / "log.json")) == data


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.json"
    with open(path, "wb") as file:
        for number in range(1000):
            moment = timestamps.from_nanoseconds(number * timestamps.SECOND)
            file.write(logs.encode(f"line {number}\n".encode(), 1, moment))
    return path


def texts(entries):
    return [entry[1].decode().strip() for entry in entries]


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 5000])
def test_tail(log, count):
    expected = [f"line {number}" for number in range(1000)][-count:] if count else []
    assert texts(log_reader.read(log, tail=count)) == expected


def test_tail_of_long_lines(tmp_path):
    path = tmp_path / "log.json"
    path.write_bytes(b"".join(logs.encode(bytes([97 + n]) * 16000 + b"\n", 1, "t") for n in range(26)))
    assert [entry[1][:1] for entry in log_reader.read(path, tail=7)] == [
        bytes([97 + n]) for n in range(19, 26)
    ]


def test_since_and_until(log):
    assert texts(log_reader.read(log, since="10", until="12")) == ["line 10", "line 11", "line 12"]
    assert texts(log_reader.read(log, since="1970-01-01T00:16:38Z")) == ["line 998", "line 999"]


def test_a_torn_line_is_left_out(log):
    with open(log, "ab") as file:
        file.write(b'{"log":"cut')
    assert len(texts(log_reader.read(log))) == 1000


def test_follow_until_the_end(box):
    container = box.start("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert [entry[1] for entry in lifecycle.read_logs(container, follow=True)] == [b"1\n", b"2\n", b"3\n"]


def test_follow_loses_nothing(box):
    container = box.start("sh", "-c", "sleep 0.3; seq 1 50000")
    found: list[list[bytes]] = [[], []]

    def follow(into: list[bytes]) -> None:
        into.extend(entry[1] for entry in lifecycle.read_logs(container, follow=True))

    followers = [threading.Thread(target=follow, args=(into,)) for into in found]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join(60)
    expected = [f"{number}\n".encode() for number in range(1, 50001)]
    assert found == [expected, expected]


def test_follow_of_an_ended_container_ends(box):
    ran = box.sh("echo x")
    assert len(list(lifecycle.read_logs(ran.container, follow=True))) == 1


def test_logs_of_one_that_never_ran(box):
    assert list(lifecycle.read_logs(box.create("true"))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 86_400_000_000_000),
        ("12.25", 12_250_000_000),
    ],
)
def test_points_in_time(text, expected):
    assert timestamps.moment(text) == expected


def test_how_long_ago():
    before = timestamps.moment("1h30m")
    assert 0 <= timestamps.to_nanoseconds(timestamps.now()) - before - 5400 * timestamps.SECOND < 10**9


def test_nonsense_is_no_time():
    with pytest.raises(InvalidInput):
        timestamps.moment("soon")
