"""Reading a Dockerfile: what the parser promises beside the recorded answers of BuildKit."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import pytest

from minidock.build import parser
from minidock.build.parser import Node
from minidock.build.problems import SyntaxProblem


def only(text: str | bytes) -> Node:
    (node,) = parser.parse(text).nodes
    return node


def problem_of(text: str | bytes, name: str = "Dockerfile") -> SyntaxProblem:
    with pytest.raises(SyntaxProblem) as raised:
        parser.parse(text, name)
    assert "\n" not in raised.value.message
    return raised.value


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\  \t\n  b", "a   b"),  # spaces behind the escape character
        ("RUN a\\\nb", "ab"),
        ("RUN a \\\n# a comment\n  # another, indented\n\n \t\n b", "a  b"),
        ("RUN a \\\n#b \\\nc", "a c"),  # a comment does not continue
        ("RUN a \\\\\n", "a \\\\"),  # escaped: the line ends
        ("RUN a \\", "a"),  # nothing to go on with
        ("RUN a # b", "a # b"),  # no comment: it does not begin the line
        ("  \tRUN a  ", "a"),
        ("run\ta", "a"),
        ("# escape=`\nRUN a \\\n", "a \\"),
        ("# escape=`\nRUN a `\nb", "a b"),
    ],
)
def test_lines_are_joined(text: str, command: str) -> None:
    assert only(text).arguments == (command,)


def test_lines_are_counted_through_comments_and_continuations() -> None:
    nodes = parser.parse("# c\n\nFROM a\n\nRUN b \\\n# c\n\n  d\nCOPY <<E /x\n\nE\nUSER u").nodes
    assert [(node.first_line, node.last_line) for node in nodes] == [(3, 3), (5, 8), (9, 11), (12, 12)]


def test_windows_files_read_the_same() -> None:
    text = "# escape=`\nFROM a\nRUN b `\n  c\nCOPY <<E /x\none\nE\nENV k=v\n"
    unix, windows = parser.parse(text), parser.parse(text.replace("\n", "\r\n").encode())
    assert windows.escape == "`"
    for one, other in zip(unix.nodes, windows.nodes, strict=True):
        assert one.arguments == other.arguments
        assert (one.first_line, one.last_line) == (other.first_line, other.last_line)
    assert windows.nodes[2].heredocs[0].content == "one\r\n"  # the content is the user's: nothing is lost


def test_a_byte_order_mark_does_not_count() -> None:
    assert only(b"\xef\xbb\xbfFROM a").keyword == "from"
    assert parser.parse("\ufeff# escape=`\nFROM a").escape == "`"


def test_bytes_that_are_no_text() -> None:
    assert only(b"# caf\xe9\nFROM a").arguments == ("a",)  # in a comment they harm nobody
    for text in (b"FROM a\xe9", b"FROM a\0", b"RUN <<E\n\0\nE\n", b"FROM a\nLABEL x=\xff\xfe"):
        problem = problem_of(text)
        assert problem.message.endswith(": this is not text")
        assert problem.line == text.count(b"\nLABEL") + 1


# ── directives ───────────────────────────────────────────────────────────────────────────────────────


def test_directives_stand_at_the_very_top() -> None:
    text = "#Syntax = docker/dockerfile:1 \n#\tCHECK=skip=all;error=true\n# escape=`\nFROM a"
    found = parser.parse(text)
    assert found.directives == {
        "syntax": "docker/dockerfile:1",
        "check": "skip=all;error=true",
        "escape": "`",
    }


@pytest.mark.parametrize(
    "above", ["\n", "# a comment\n", "# unknown=x\n", "# check\v=x\n", "FROM b\n", "#\n"]
)
def test_whatever_else_stands_above_ends_them(above: str) -> None:
    assert parser.parse(f"{above}# escape=`\nFROM a").escape == "\\"


def test_bad_directives() -> None:
    assert (
        problem_of("# escape=x\nFROM a").message == "Dockerfile:1: invalid ESCAPE 'x' does not match ` or \\"
    )
    twice = problem_of("# escape=`\n# Escape=`\nFROM a")
    assert twice.message == "Dockerfile:2: only one escape parser directive can be used"


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rest", "arguments", "exec_form"),
    [
        ('["a", "b c"]', ("a", "b c"), True),
        ('  ["a"]\t', ("a",), True),
        ("[]", (), True),
        ('["\\u00e9\\n\\/"]', ("é\n/",), True),
        ("['a', 'b']", ("['a', 'b']",), False),  # single quotes are not JSON: a shell's business
        ('["a", ]', ('["a", ]',), False),
        ('["a"', ('["a"',), False),
        ('["a"] b', ('["a"] b',), False),
        ('{"a": "b"}', ('{"a": "b"}',), False),
        ("[ -f x ] && y", ("[ -f x ] && y",), False),
        ("[" * 100_000, ("[" * 100_000,), False),
    ],
)
@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
def test_a_json_list_is_the_exec_form_and_all_else_is_for_a_shell(
    keyword: str, rest: str, arguments: tuple[str, ...], exec_form: bool
) -> None:
    node = only(f"{keyword} {rest}")
    assert (node.arguments, node.exec_form) == (arguments, exec_form)


@pytest.mark.parametrize(
    "rest", ["[1]", '["a", 2]', '["a", ["b"]]', "[null]", "[true]", '[{"a": 1}]', "[1e999]"]
)
@pytest.mark.parametrize("keyword", ["CMD", "COPY", "HEALTHCHECK CMD", "ONBUILD RUN"])
def test_a_list_of_anything_else_was_not_meant(keyword: str, rest: str) -> None:
    problem = problem_of(f"FROM a\n{keyword} {rest}")
    assert problem.message == (
        "Dockerfile:2: when using JSON array syntax, arrays must be comprised of strings only"
    )
    assert problem.hint and '["sleep", "10"]' in problem.hint


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("ENV a=b c='d e' f=\"g h\"", ("a", "b", "=", "c", "'d e'", "=", "f", '"g h"', "=")),
        ("ENV a=b\\ c", ("a", "b\\ c", "=")),
        ("ENV a b  c", ("a", "b  c", "")),  # the old form
        ("LABEL a=", ("a", "", "=")),
        ('LABEL "a b"=c', ('"a b"', "c", "=")),
        ("ARG a b='c d'", ("a", "b='c d'")),
        ("EXPOSE 80\t443", ("80", "443")),
        ("WORKDIR  /a b ", ("/a b",)),
        ("HEALTHCHECK cmd [\"a\", 'b']", ("cmd", "[\"a\", 'b']")),
    ],
)
def test_arguments(text: str, arguments: tuple[str, ...]) -> None:
    assert only(text).arguments == arguments


@pytest.mark.parametrize(
    ("text", "flags", "arguments"),
    [
        ("COPY --from=a --link b c", ("--from=a", "--link"), ("b", "c")),
        ("COPY --from='a b' c d", ("--from=a b",), ("c", "d")),
        ("COPY -- --a b", (), ("--a", "b")),
        ("COPY a --b c", (), ("a", "--b", "c")),
        ("COPY --chown=é:ü a b", ("--chown=é:ü",), ("a", "b")),
        ("RUN --mount=type=tmpfs,target=/a\\ b x", ("--mount=type=tmpfs,target=/a b",), ("x",)),
        ("# escape=`\nRUN --x=a` b --y=c:\\d e", ("--x=a b", "--y=c:\\d"), ("e",)),
    ],
)
def test_flags(text: str, flags: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    node = only(text)
    assert (node.flags, node.arguments) == (flags, arguments)


def test_onbuild_holds_an_instruction() -> None:
    trigger = only("ONBUILD COPY --from=a <<E /x\ntext\nE\n").trigger
    assert trigger
    assert (trigger.keyword, trigger.flags, trigger.arguments) == ("copy", ("--from=a",), ("<<E", "/x"))
    assert trigger.heredocs[0].content == "text\n"


# ── heredocs ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "name", "content", "expand"),
    [
        ("RUN <<E\na\n\tb\nE\n", "E", "a\n\tb\n", True),
        ("RUN <<E\nE", "E", "", True),
        ("RUN <<'E'\n$a\nE\n", "E", "$a\n", False),
        ('RUN <<E""\nE\n', "E", "", False),
        ("RUN <<E\n# no comment \\\nE \n E\nE\n", "E", "# no comment \\\nE \n E\n", True),
        ("RUN << E\nE\n", "E", "", True),
        ("RUN cat > x <<E && y\n1\nE\n", "E", "1\n", True),
        ("RUN 3<<E cat /dev/fd/3\n1\nE\n", "E", "1\n", True),
        ("COPY <<a.txt /x\n1\na.txt\n", "a.txt", "1\n", True),
        ("ADD <<\\E\\\n/x\n1\nE/x\n", "E/x", "1\n", True),
        ("# escape=`\nRUN <<E\\\n1\nE", "E", "1\n", True),
    ],
)
def test_heredocs(text: str, name: str, content: str, expand: bool) -> None:
    (heredoc,) = only(text).heredocs
    assert (heredoc.name, heredoc.content, heredoc.expand) == (name, content, expand)


def test_the_dash_takes_leading_tabs_away() -> None:
    (heredoc,) = only("RUN <<-E\n\t\ta\n\t b\n\tE\n").heredocs
    assert (heredoc.chomp, heredoc.text) == (True, "a\n b\n")


@pytest.mark.parametrize(
    "text",
    ["RUN cat <<<E", "USER <<E", 'RUN "<<E"', "RUN ['<<E']", 'RUN ["<<E"]', "RUN '<<E", "RUN 1<2", "CMD <<E"],
)
def test_no_heredocs(text: str) -> None:
    assert only(text).heredocs == ()


def test_a_heredoc_without_end() -> None:
    problem = problem_of("FROM a\nRUN <<EOF\nls\n EOF\n", "web.Dockerfile")
    assert problem.message == "web.Dockerfile:2: unterminated heredoc: EOF"
    assert (
        problem.hint == "The line reads: RUN <<EOF\nA line must hold EOF and nothing else, not even spaces."
    )


# ── what is wrong, and where ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "\ufeff", "\r\n", "# escape=`\n", b""])
def test_nothing_to_build(text: str | bytes) -> None:
    problem = problem_of(text)
    assert problem.message == "Dockerfile: file with no instructions"
    assert problem.hint and "FROM" in problem.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENV a", "Dockerfile:2: ENV must have two arguments"),
        ("LABEL a", "Dockerfile:2: LABEL must have two arguments"),
        ("ENV a=b c", 'Dockerfile:2: Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("ONBUILD ENV a", "Dockerfile:2: ENV must have two arguments"),
    ],
)
def test_malformed_pairs(text: str, message: str) -> None:
    problem = problem_of(f"FROM x\n{text}\n")
    assert problem.message == message
    assert problem.hint and problem.hint.startswith(f"The line reads: {text}\n")


def test_a_long_line_is_shown_in_part() -> None:
    problem = problem_of("ENV a=b " + "x" * 10_000)
    assert problem.hint and len(problem.hint) < 400


def test_one_instruction_alone() -> None:
    assert parser.parse_line("CMD a").keyword == "cmd"
    with pytest.raises(SyntaxProblem, match="one instruction is expected, and this is more: CMD b"):
        parser.parse_line("CMD a\nCMD b")
    with pytest.raises(SyntaxProblem, match=r"^ENV must have two arguments$"):
        parser.parse_line("ENV a")


# ── large files ──────────────────────────────────────────────────────────────────────────────────────

MEGABYTE = 1 << 20
ONE_LINE: dict[str, Callable[[int], str]] = {
    "one line": lambda size: "RUN " + "a " * (size // 2),
    "pairs": lambda size: "ENV " + "a=b " * (size // 4),
    "quotes": lambda size: "ENV a=" + "''" * (size // 2),
    "a quote left open": lambda size: "RUN <<E '" + "a\\" * (size // 2) + "\nE\n",
    "words": lambda size: "COPY " + "a " * (size // 2),
    "flags": lambda size: "RUN " + "--a=b " * (size // 6),
    "a list": lambda size: "RUN [" + '"a",' * (size // 4) + '"b"]',
    "arrows": lambda size: "RUN " + "<<" * (size // 2),
    "spaces": lambda size: "# escape" + " " * size + "\nRUN a" + " " * size + "b",
}
MANY_LINES: dict[str, Callable[[int], str]] = {
    "a heredoc": lambda size: "RUN <<E\n" + "a\n" * (size // 2) + "E\n",
    "continued lines": lambda size: "RUN a" + "\\\nb" * (size // 3),
    "heredocs": lambda size: "RUN " + " ".join(["<<E"] * (size // 12)) + "\n" + "E\n" * (size // 12),
    "instructions": lambda size: "RUN a\n" * (size // 6),
}


@pytest.mark.parametrize("name", [*ONE_LINE, *MANY_LINES])
def test_twice_the_text_is_not_four_times_the_work(name: str) -> None:
    make = {**ONE_LINE, **MANY_LINES}[name]
    small, large = (events(make(size)) for size in (4096, 8192))
    assert large <= 2.5 * small
    # A quadratic search inside a regular expression is no event, but at this size it would not end.
    parser.parse(make(MEGABYTE if name in ONE_LINE else MEGABYTE // 8))


def test_a_line_of_four_megabytes() -> None:
    words = "a" * (4 * MEGABYTE)
    assert only(f"RUN {words}").arguments == (words,)
    assert only(f'ENV k="{words}"').arguments == ("k", f'"{words}"', "=")


def events(text: str) -> int:
    """How many lines of Python ran to parse *text*: a clock would measure the machine's other work too."""
    counter = itertools.count()

    def trace(*_: object) -> Callable[..., object]:
        next(counter)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parser.parse(text)
    finally:
        sys.settrace(before)
    return next(counter)
