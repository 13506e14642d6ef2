"""What instructions mean: forms, flags, counts and variables, with BuildKit's words for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from minidock import notation
from minidock.build import forms, instructions, parser
from minidock.build.forms import Instruction, RunMount
from minidock.build.problems import SyntaxProblem
from minidock.errors import InvalidInput

VARIABLES = {"name": "value", "dir": "/srv", "port": "80 53/udp", "tabs": "\tx\n\ty", "empty": "", "n": "7"}


def read(text: str) -> Any:
    (node,) = parser.parse(text).nodes
    return instructions.read(node)


def expanded(text: str, variables: dict[str, str] = VARIABLES, escape: str = "\\") -> Any:
    return instructions.expanded(read(text), variables, escape)


def values(instruction: Instruction, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(instruction, name) for name in names)


def mount(text: str) -> RunMount:
    (found,) = expanded(f"RUN --mount={text} x").mounts
    assert isinstance(found, RunMount)
    return found


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────


def test_from() -> None:
    stage = read("FROM --platform=linux/arm64 a:1 aS Base-1.x_y")
    assert values(stage, "image", "platform", "name") == ("a:1", "linux/arm64", "base-1.x_y")
    assert values(read("FROM scratch"), "image", "platform", "name") == ("scratch", "", "")


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
def test_commands(keyword: str) -> None:
    assert values(read(f"{keyword} echo  $HOME"), "command", "exec_form") == (("echo  $HOME",), False)
    assert values(read(f'{keyword} ["a", "b c"]'), "command", "exec_form") == (("a", "b c"), True)


def test_a_command_may_be_taken_back() -> None:
    assert values(read("CMD []"), "command", "exec_form") == ((), True)
    assert values(read("ENTRYPOINT"), "command", "exec_form") == (("",), False)


def test_run() -> None:
    run = read("RUN --network=none --security=insecure <<E\nls\nE")
    assert values(run, "network", "security", "command") == ("none", "insecure", ("<<E",))
    assert run.heredocs[0].content == "ls\n"
    assert values(read("RUN ls"), "network", "security", "mounts") == ("default", "sandbox", ())


def test_copy() -> None:
    copy = read("COPY --from=b --chown=1:2 --chmod=755 --link --parents --exclude=x --exclude=y a b /c/")
    assert values(copy, "sources", "destination", "from_stage") == (("a", "b"), "/c/", "b")
    assert values(copy, "chown", "chmod", "link", "parents", "exclude") == (
        "1:2",
        "755",
        True,
        True,
        ("x", "y"),
    )
    assert not copy.unpack
    assert not read("COPY --link=false a b").link


def test_copy_of_heredocs() -> None:
    copy = read("COPY <<one a <<two /dst/\n1\none\n2\ntwo\n")
    assert copy.sources == ("a",)
    assert [(each.name, each.content) for each in copy.heredocs] == [("one", "1\n"), ("two", "2\n")]
    assert read('COPY ["<<a", "/x"]').sources == ("<<a",)  # the list names files as they are


def test_add() -> None:
    add = read("ADD --checksum=sha256:0 --keep-git-dir=true https://x/y z")
    assert values(add, "checksum", "keep_git_dir", "unpack") == ("sha256:0", True, True)


def test_pairs() -> None:
    assert read("ENV a=b c='d e'").pairs == (("a", "b"), ("c", "'d e'"))
    assert read("ENV a b c").pairs == (("a", "b c"),)
    assert read("LABEL a= b=c").pairs == (("a", ""), ("b", "c"))
    assert read("ARG a b= c=d").pairs == (("a", None), ("b", ""), ("c", "d"))


def test_the_rest() -> None:
    assert read("EXPOSE 80 53/udp 1-3").ports == ("1-3", "53/udp", "80")
    assert read('VOLUME ["/a", " /b c "]').paths == ("/a", "/b c")
    assert read("VOLUME /a /b").paths == ("/a", "/b")
    assert read("USER me:us").user == "me:us"
    assert read("WORKDIR /a b").path == "/a b"
    assert read("STOPSIGNAL SIGQUIT").signal == "SIGQUIT"
    assert read('SHELL ["/bin/bash", "-c"]').command == ("/bin/bash", "-c")
    assert read("MAINTAINER A <a@b>").name == "A <a@b>"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ONBUILD  RUN a b", "RUN a b"),
        ("onbuild\tcopy . /x", "copy . /x"),
        ("ONBUILD COPY <<E <<-F /x/\n1\nE\n\t2\nF\n", "COPY <<E <<-F /x/\n1\nE\n\t2\nF"),
    ],
)
def test_onbuild_keeps_what_can_be_read_again(text: str, kept: str) -> None:
    assert read(text).text == kept
    parser.parse_line(kept)


def test_health_checks() -> None:
    check = read("HEALTHCHECK --interval=1m30s --timeout=1ms --start-period=0s --retries=3 cmd a  b")
    assert check.test == ("CMD-SHELL", "a  b")
    assert values(check, "interval", "timeout", "start_period") == (90_000_000_000, 1_000_000, 0)
    assert values(check, "start_interval", "retries") == (0, 3)
    assert read('HEALTHCHECK CMD ["a", "b"]').test == ("CMD", "a", "b")
    assert read("HEALTHCHECK none").test == ("NONE",)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────

NOT_FROM = "variable expansion is not supported for --from"
WORKAROUND = "define a new stage with FROM using ARG from global scope as a workaround"
REFUSED = {
    "FORM a": "unknown instruction: FORM (did you mean FROM?)",
    "form a": "unknown instruction: form (did you mean from?)",
    "COPPY a b": "unknown instruction: COPPY (did you mean COPY?)",
    "&& ls": "unknown instruction: &&",
    "\\": "unknown instruction: ",
    "FROM": "FROM requires either one or three arguments",
    "FROM a b": "FROM requires either one or three arguments",
    "FROM a AS": "FROM requires either one or three arguments",
    "FROM a is b": "FROM requires either one or three arguments",
    "FROM a AS 1b": 'invalid name for build stage: "1b", name can\'t start with a number or contain symbols',
    "FROM --platfrom=x a": "unknown flag: --platfrom (did you mean platform?)",
    "RUN --mount x": "missing a value on flag: --mount",
    "RUN --network=hsot x": 'invalid network mode "hsot"',
    "RUN --security=none x": 'security "none" is not valid',
    "RUN []": "RUN [] names no program to run",
    "COPY a": "COPY requires at least two arguments, but only one was provided. "
    "Destination could not be determined",
    "ADD a <<E\nE": "ADD cannot accept a heredoc as a destination",
    "COPY --from=$x a b": f"{NOT_FROM}, {WORKAROUND}",
    "COPY --from=a --from=b c d": "duplicate flag specified: --from",
    "COPY --link= a b": "missing a value on flag: --link",
    "COPY --link=maybe a b": "expecting boolean value for flag --link, not: maybe",
    "COPY --checksum=x a b": "unknown flag: --checksum",
    "ADD --from=x a b": "unknown flag: --from",
    "CMD --x y": "unknown flag: --x",
    "ENV": "ENV requires at least one argument",
    "ENV =b": "ENV names can not be blank",
    "LABEL =b": "LABEL names can not be blank",
    "ARG": "ARG requires at least one argument",
    "ARG =b": "ARG names can not be blank",
    "EXPOSE": "EXPOSE requires at least one argument",
    'VOLUME ["/a", " "]': "VOLUME specified can not be an empty string",
    "VOLUME []": "VOLUME requires at least one argument",
    "USER": "USER requires exactly one argument",
    "WORKDIR --x": "WORKDIR requires exactly one argument",
    "STOPSIGNAL --x 9": "unknown flag: --x",
    "ONBUILD FROM a": "FROM isn't allowed as an ONBUILD trigger",
    "ONBUILD maintainer a": "MAINTAINER isn't allowed as an ONBUILD trigger",
    "ONBUILD ONBUILD RUN a": "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    "ONBUILD COPY a": "COPY requires at least two arguments, but only one was provided. "
    "Destination could not be determined",
    "ONBUILD RNU a": "unknown instruction: RNU (did you mean RUN?)",
    "SHELL bash -c": "SHELL requires the arguments to be in JSON form",
    "SHELL []": "SHELL requires at least one argument",
    "HEALTHCHECK NONE a": "HEALTHCHECK NONE takes no arguments",
    "HEALTHCHECK CMD": "Missing command after HEALTHCHECK CMD",
    "HEALTHCHECK curl x": 'Unknown type "CURL" in HEALTHCHECK (try CMD)',
    "HEALTHCHECK --interval=10 CMD a": 'invalid duration "10"',
    "HEALTHCHECK --timeout=5us CMD a": 'Interval "timeout" cannot be less than 1ms',
    "HEALTHCHECK --start-period=-1s CMD a": 'Interval "start-period" cannot be less than 1ms',
    "HEALTHCHECK --retries=-1 CMD a": "--retries cannot be negative (-1)",
    "HEALTHCHECK --retries=many CMD a": "--retries must be a whole number, not many",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_file_line_and_text(text: str) -> None:
    node = parser.parse(f"FROM a\n\n{text}\n", "x/Dockerfile").nodes[1]
    with pytest.raises(SyntaxProblem) as raised:
        instructions.read(node)
    assert raised.value.message == f"x/Dockerfile:3: {REFUSED[text]}"
    shown = text.split("\n")[0].removesuffix("\\")
    assert not shown or (raised.value.hint and shown in raised.value.hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("&& ls", "If this belongs to the line above, then that line must end in \\."),
        ("FROM a # the base", "A comment needs a line of its own."),
        ("FROM a b", "Write FROM image, or FROM image AS name."),
        ("COPY --chwon=1 a b", "COPY has --chown, --chmod, --from, --link, --parents, --exclude."),
        ("CMD --help", "A word that begins with -- needs -- before it: CMD -- --word"),
        ("RUN --network x", "Write --network=value."),
        ("SHELL bash", 'For example SHELL ["/bin/bash", "-c"].'),
    ],
)
def test_what_was_probably_meant(text: str, hint: str) -> None:
    with pytest.raises(SyntaxProblem) as raised:
        read(text)
    assert raised.value.hint and raised.value.hint.endswith(hint)


# ── mounts of RUN ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", {"kind": "bind", "target": "/a", "read_only": True}),
        ("type=bind,dst=/a,src=b,from=c,rw", {"source": "b", "from_stage": "c", "read_only": False}),
        ("type=cache,target=/a", {"read_only": False, "sharing": "shared", "identifier": ""}),
        ("type=cache,target=/a,id=x,sharing=locked,ro", {"sharing": "locked", "read_only": True}),
        ("type=cache,target=/a,mode=0755,uid=1,gid=$n", {"mode": 0o755, "uid": 1, "gid": 7}),
        ("type=TMPFS,destination=/a,size=64m", {"kind": "tmpfs", "size": 64 << 20, "read_only": False}),
        ("type=secret,id=x", {"identifier": "x", "target": "/run/secrets/x", "required": False}),
        (
            "type=secret,target=/a/b,required,mode=0400",
            {"identifier": "b", "target": "/a/b", "required": True},
        ),
        ("type=secret,id=x,env=TOKEN", {"env": "TOKEN", "target": ""}),
        ("type=bind,target=/a,rw=false,ro=0", {"read_only": False}),  # the last one counts
        ("type=bind,target=$dir/$name", {"target": "/srv/value"}),
        ("type=$kind,target=/a", {"kind": "cache"}),
        ('"type=bind","target=/a,b"', {"target": "/a,b"}),
    ],
)
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    (found,) = expanded(f"RUN --mount='{text}' x", {**VARIABLES, "kind": "cache"}).mounts
    assert {name: getattr(found, name) for name in expected} == expected


def test_before_variables_are_known_a_mount_tells_what_it_can() -> None:
    (waiting,) = read("RUN --mount=type=$t,target=/$a,from=base,mode=$m,size=$s,ro x").mounts
    assert values(waiting, "kind", "target", "from_stage") == ("$t", "/$a", "base")
    assert values(waiting, "mode", "size", "read_only") == (None, None, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=bnd,target=/a", 'unsupported mount type "bnd" (did you mean bind?)'),
        ("type=cache,target=/a,sharing=lockd", 'unsupported sharing value "lockd" (did you mean locked?)'),
        ("type=cache,traget=/a", "unexpected key 'traget' in 'traget=/a' (did you mean target?)"),
        ("type=cache,/a", "invalid field '/a' must be a key=value pair"),
        ("type=bind,target=/a,mode=0755", 'mode not allowed for "bind" type mounts'),
        ("type=bind,target=/a,size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("type=cache,target=/a,required", "unexpected key 'required' for mount type 'cache'"),
        ("type=tmpfs,target=/a,size=big", "invalid value for size: big"),
        ("type=bind,target=/a,ro=maybe", "invalid value for readonly: maybe"),
        ("type=cache,target=/a,mode=999", "invalid value 999 for mode"),
        ("type=cache,target=/a,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/a,uid=4294967296", "invalid value 4294967296 for uid"),
        ("type=cache,target=/a,uid=$name", "invalid value value for uid"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("from=$name,target=/a", "'from' doesn't support variable expansion, define alias stage instead"),
    ],
)
def test_mounts_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SyntaxProblem) as raised:
        mount(text)
    assert raised.value.message == f"Dockerfile:1: {reason}"


# ── variables ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("FROM --platform=$name $name:${tag:-1}", "image", "value:1"),
        ("FROM --platform=$name a", "platform", "value"),
        ("ENV $name=\"$dir x\" b='$dir'", "pairs", (("value", "/srv x"), ("b", "$dir"))),
        ('ENV a $name  "b"', "pairs", (("a", "value  b"),)),
        ("LABEL a=${missing:-x}", "pairs", (("a", "x"),)),
        ("ARG a=$name b", "pairs", (("a", "value"), ("b", None))),
        ('COPY $name ${dir}/x "$dir"', "sources", ("value", "/srv/x")),
        ("COPY a $dir/", "destination", "/srv/"),
        ("COPY --chown=$n:$n a b", "chown", "7:7"),
        ("COPY --chmod=$n a b", "chmod", "7"),
        ("ADD --checksum=sha256:$n a b", "checksum", "sha256:7"),
        ("COPY --exclude=$name a b", "exclude", ("$name",)),  # not there
        ("EXPOSE $port 8080:443", "ports", ("80", "53/udp", "443")),
        ("VOLUME $dir /x", "paths", ("/srv", "/x")),
        ("USER $name:$n", "user", "value:7"),
        ("WORKDIR $dir/a\\ b", "path", "/srv/a b"),
        ("STOPSIGNAL $n", "signal", "7"),
        ("RUN echo $name", "command", ("echo $name",)),
        ('CMD ["$name"]', "command", ("$name",)),
        ("ENTRYPOINT $name", "command", ("$name",)),
        ('SHELL ["$name"]', "command", ("$name",)),
        ("HEALTHCHECK CMD $name", "test", ("CMD-SHELL", "$name")),
        ("ONBUILD RUN $name", "text", "RUN $name"),
        ("MAINTAINER $name", "name", "$name"),
    ],
)
def test_variables_count_where_docker_says(text: str, field: str, value: object) -> None:
    result = expanded(text)
    assert getattr(result, field) == value
    assert type(result) is type(read(text))


def test_the_escape_character_of_the_file_counts() -> None:
    (node,) = parser.parse("# escape=`\nWORKDIR c:\\`$name\\$name").nodes
    result = instructions.expanded(instructions.read(node), VARIABLES, "`")
    assert isinstance(result, forms.Workdir)
    assert result.path == "c:\\$name\\value"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("COPY <<E /x\n$name \"$dir\" '$n' \\$n\nE", "value \"/srv\" '7' $n\n"),
        ("COPY <<'E' /x\n$name\nE", "$name\n"),
        ("COPY <<-E /x\n\t\ta\n\t$tabs\n\tE", "a\n\tx\n\ty\n"),  # the tabs of a value stay
        ("RUN <<E\n$name\nE", "$name\n"),  # for the shell
    ],
)
def test_variables_in_heredocs(text: str, content: str) -> None:
    (heredoc,) = expanded(text).heredocs
    assert heredoc.text == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM $empty", "base name ($empty) should not be blank"),
        ("ENV $empty=x", "ENV names can not be blank"),
        ("WORKDIR ${x:?say where}", 'failed to process "${x:?say where}": x: say where'),
        ("USER '$n", "failed to process \"'$n\": unexpected end of statement while looking for matching "
         "single-quote"),
        ("EXPOSE $name", "invalid port: 'value'"),
        ("EXPOSE 9-1", "invalid port range: '9-1'"),
        ("STOPSIGNAL $name", "invalid signal: value"),
        ("COPY <<E /x\n${x:?no}\nE", 'failed to process "${x:?no}\\n": x: no'),
    ],
)  # fmt: skip
def test_variables_that_cannot_be(text: str, reason: str) -> None:
    with pytest.raises(SyntaxProblem) as raised:
        expanded(text)
    assert raised.value.message == f"Dockerfile:1: {reason}"
    assert raised.value.hint and raised.value.hint.startswith("The line reads: ")


def test_nothing_is_changed_in_place() -> None:
    before = read("ENV a=$name")
    instructions.expanded(before, VARIABLES)
    assert before.pairs == (("a", "$name"),)


# ── ports ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ["80/tcp"]),
        ("080/TCP", ["80/tcp"]),
        ("8000-8002/udp", ["8000/udp", "8001/udp", "8002/udp"]),
        ("5-5/sctp", ["5/sctp"]),
        ("65535/", ["65535/tcp"]),
    ],
)
def test_exposed_ports(text: str, ports: list[str]) -> None:
    assert notation.exposed_ports(text) == ports


@pytest.mark.parametrize(
    "text", ["", "/tcp", "65536", "-1", "80-", "-80", "81-80", "1-70000", "80/http", "80:80", "a", "٣", "8 0"]
)
def test_no_ports(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid port"):
        notation.exposed_ports(text)
