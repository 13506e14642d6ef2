"""The checks of lab 07. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

from minidock.build import dockerfile
from minidock.build.problems import SyntaxProblem
from minidock.lab.checks import World, expect, task
from minidock.lab.diary import Diary

REFUSED = "SyntaxProblem"


def _answers(world: World, name: str, *cases: tuple):
    """What the student's function says to each list of arguments, and how a message calls each.

    Tuples come back as lists. SyntaxProblem is an answer, too.
    """
    calls = [f"{name}({', '.join(map(repr, arguments))})" for arguments in cases]

    def one(arguments):
        try:
            return getattr(dockerfile, name)(*arguments)
        except SyntaxProblem:
            return REFUSED

    told = world.tell(lambda: [one(arguments) for arguments in cases], call=calls[0])
    return zip(told.value, calls, strict=True)


def _ask(world: World, name: str, *arguments):
    ((got, call),) = _answers(world, name, arguments)
    return got, call


def _same(world: World, name: str, *arguments, expected, next_step: str):
    _each(world, name, [(*arguments, expected)], next_step)


def _each(world: World, name: str, cases: list[tuple], next_step: str):
    """*cases*: the arguments, and last what is expected."""
    for (got, call), (*_, expected) in zip(
        _answers(world, name, *(c[:-1] for c in cases)), cases, strict=True
    ):
        expect(got == expected, call=call, result=repr(got), expected=repr(expected), next_step=next_step)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


# --- task 1 --------------------------------------------------------------------------------------


@task(1)
def test_comments_and_empty_lines_are_skipped(world: World):
    _same(
        world,
        "next_instruction",
        _lines("# a comment\n\n  # another\n  FROM busybox\nRUN ls\n"),
        0,
        expected=["FROM busybox", 3, 4],
        next_step="(text, index of its line, index of the next). Strip the text at both ends.",
    )


@task(1, needs=("test_comments_and_empty_lines_are_skipped",))
def test_the_end_is_none(world: World):
    _same(
        world,
        "next_instruction",
        _lines("FROM busybox\n# the end\n"),
        1,
        expected=None,
        next_step="Return None when no line after start holds an instruction.",
    )


@task(1, needs=("test_comments_and_empty_lines_are_skipped",))
def test_two_lines_are_one(world: World):
    got, call = _ask(world, "next_instruction", _lines("RUN a \\\n  && b\\ \nc"), 0)
    expect(
        got is not None and got[0] == "RUN a   && bc",
        call=call,
        result=repr(got and got[0]),
        expected="'RUN a   && bc': joined as they are",
        next_step="Drop the escape character and what follows it; add nothing, keep the next line's spaces.",
    )


@task(1, needs=("test_two_lines_are_one",))
def test_it_goes_on_behind_the_last_line(world: World):
    got, call = _ask(world, "next_instruction", _lines("FROM x\nRUN a \\\n b \\\n c\nCMD d\n"), 1)
    expect(
        got is not None and got[1:] == [1, 4],
        call=call,
        result=f"first and after are {got and got[1:]}",
        expected="[1, 4]: it begins at index 1, and CMD stands at index 4",
        next_step="after is the index behind the last line that you used.",
    )


@task(1, needs=("test_two_lines_are_one",))
def test_a_comment_inside_does_not_count(world: World):
    got, call = _ask(world, "next_instruction", _lines("RUN a \\\n# why b\n  && b\nCMD c\n"), 0)
    expect(
        got is not None and got[0].split() == ["RUN", "a", "&&", "b"],
        call=call,
        result=repr(got and got[0]),
        expected="'RUN a   && b'",
        next_step="Skip a comment also when an instruction has begun: people explain long RUNs so.",
    )


@task(1, needs=("test_two_lines_are_one",))
def test_an_empty_line_inside_does_not_count(world: World):
    got, call = _ask(world, "next_instruction", _lines("RUN a \\\n\n  && b\nCMD c\n"), 0)
    expect(
        got is not None and got[0].split() == ["RUN", "a", "&&", "b"],
        call=call,
        result=repr(got and got[0]),
        expected="'RUN a   && b'",
        next_step="Skip empty lines also when an instruction has begun.",
    )


@task(1, needs=("test_two_lines_are_one",))
def test_the_escape_character_may_be_another(world: World):
    got, call = _ask(world, "next_instruction", _lines("COPY a `\n C:\\\nCMD c\n"), 0, "`")
    expect(
        got is not None and got[0].split() == ["COPY", "a", "C:\\"],
        call=call,
        result=repr(got and got[0]),
        expected=repr("COPY a  C:\\"),
        next_step="Use the argument escape. In files for Windows it is `, because \\ stands in paths.",
    )


# --- task 2 --------------------------------------------------------------------------------------


@task(2)
def test_keyword_and_rest(world: World):
    got, call = _ask(world, "take_apart", "FROM   busybox ")
    expect(
        len(got or ()) == 3 and got[0].lower() == "from" and got[1:] == [[], "busybox"],
        call=call,
        result=repr(got),
        expected="['from', [], 'busybox']",
        next_step="(keyword, flags, rest), without spaces around; flags is an empty tuple here.",
    )


@task(2, needs=("test_keyword_and_rest",))
def test_keywords_in_any_case(world: World):
    got, call = _ask(world, "take_apart", "From busybox")
    expect(
        got[0] == "from",
        call=call,
        result=f"the keyword {got[0]!r}",
        expected="'from'",
        next_step="Keywords count in any case: make them lower case.",
    )


@task(2, needs=("test_keyword_and_rest",))
def test_flags_come_first(world: World):
    got, call = _ask(world, "take_apart", "copy --from=build  --chmod=0755 a b")
    expect(
        got[1:] == [["--from=build", "--chmod=0755"], "a b"],
        call=call,
        result=f"flags and rest are {got[1:]}",
        expected="[['--from=build', '--chmod=0755'], 'a b']",
        next_step="Take words off the front as long as they begin with --.",
    )


@task(2, needs=("test_keyword_and_rest",))
def test_a_flag_of_the_command_is_none_of_ours(world: World):
    got, call = _ask(world, "take_apart", "run ls --all  /")
    expect(
        got[1:] == [[], "ls --all  /"],
        call=call,
        result=f"flags and rest are {got[1:]}",
        expected="[[], 'ls --all  /']: it belongs to ls",
        next_step="Stop at the first word that does not begin with --, and leave the rest as it is.",
    )


# --- task 3 --------------------------------------------------------------------------------------


@task(3)
def test_a_json_list_is_the_exec_form(world: World):
    _same(
        world,
        "exec_form",
        '["echo", "a  b", "c,d"]',
        expected=["echo", "a  b", "c,d"],
        next_step="json.loads reads it, quotes and commas and all.",
    )


@task(3, needs=("test_a_json_list_is_the_exec_form",))
def test_anything_else_is_the_shell_form(world: World):
    cases = [("echo hello", None), ("['echo', 'hello']", None), ("[ -e /x ] && ls", None)]
    step = "Return None for what is no JSON: the shell will read it. JSON knows only double quotes."
    _each(world, "exec_form", cases, step)


@task(3, needs=("test_a_json_list_is_the_exec_form",))
def test_other_json_is_a_command(world: World):
    step = "`RUN true` runs a program; that true is JSON, too, is chance. Only a list counts."
    _each(world, "exec_form", [("true", None), ("5", None)], step)


@task(3, needs=("test_a_json_list_is_the_exec_form",))
def test_a_list_of_anything_else_is_refused(world: World):
    _same(
        world,
        "exec_form",
        '["sleep", 10]',
        expected=REFUSED,
        next_step='Raise SyntaxProblem: a program\'s arguments are strings, so write "10".',
    )


@task(3)
def test_the_exec_form_runs_as_it_stands(world: World):
    _same(
        world,
        "program",
        ["echo", "$HOME"],
        True,
        ["/bin/sh", "-c"],
        expected=["echo", "$HOME"],
        next_step="In the exec form no shell is there: return the words.",
    )


@task(3, needs=("test_the_exec_form_runs_as_it_stands",))
def test_the_shell_gets_one_text(world: World):
    got, call = _ask(world, "program", ["echo $HOME  | wc -c"], False, ["/bin/sh", "-c"])
    expect(
        got[-1:] == ["echo $HOME  | wc -c"],
        call=call,
        result=repr(got),
        expected="the text as one word at the end",
        next_step="Do not cut the text: the shell does that, and knows quotes and pipes.",
    )


@task(3, needs=("test_the_shell_gets_one_text",))
def test_the_shell_may_be_another(world: World):
    _same(
        world,
        "program",
        ["echo"],
        False,
        ["/bin/busybox", "ash", "-ec"],
        expected=["/bin/busybox", "ash", "-ec", "echo"],
        next_step="Use the argument shell: the instruction SHELL may have changed it.",
    )


# --- task 4 --------------------------------------------------------------------------------------

ENV = {"NAME": "ada", "A1": "one", "EMPTY": "", "PRICE": "$NAME"}


def _expand(world: World, next_step: str, *cases: tuple[str, str]):
    _each(world, "expand", [(text, ENV, expected) for text, expected in cases], next_step)


@task(4)
def test_a_variable_is_replaced(world: World):
    cases = [("plain", "plain"), ("$NAME", "ada"), ("/home/${NAME}/x", "/home/ada/x"), ("<$MISSING>", "<>")]
    _expand(world, "Replace $NAME and ${NAME}; a name that env does not have is nothing.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_names_end_where_they_end(world: World):
    cases = [("$A1-x", "one-x"), ("$NAME/x", "ada/x"), ("$NAMEs", ""), ("5$", "5$"), ("$-", "$-")]
    _expand(world, "A name is as long as possible: letters, digits, _. No name: the $ stays.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_a_word_for_a_missing_value(world: World):
    cases = [("${MISSING:-x}", "x"), ("${EMPTY:-x y}z", "x yz"), ("${NAME:-x}", "ada")]
    _expand(world, "${NAME:-word} is word only if the value is missing or empty.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_a_word_for_a_value(world: World):
    cases = [("${MISSING:+x}", ""), ("${EMPTY:+x}", ""), ("${NAME:+x}", "x")]
    _expand(world, "${NAME:+word} is word only if there is a value.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_double_quotes_go_and_variables_stay(world: World):
    cases = [('"two words"', "two words"), ('a"$NAME"b', "aadab"), ('"it\'s"', "it's")]
    _expand(world, "Quotes are removed; inside double quotes a single one is a letter.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_single_quotes_keep_everything(world: World):
    cases = [("'$NAME'", "$NAME"), ("'a\"b'", 'a"b')]
    _expand(world, "Between single quotes nothing has a meaning.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_an_escaped_letter_is_itself(world: World):
    cases = [("\\$NAME", "$NAME"), ("a\\ b", "a b"), ('"\\$NAME"', "$NAME")]
    _expand(world, "Take the letter behind the escape character as it is, and drop the escape.", *cases)


@task(4, needs=("test_a_variable_is_replaced",))
def test_a_value_is_not_read_again(world: World):
    cases = [("$PRICE", "$NAME")]
    _expand(world, "Go on behind the variable's name, not in its value.", *cases)


@task(4, needs=("test_double_quotes_go_and_variables_stay", "test_a_word_for_a_missing_value"))
def test_what_is_left_open_is_refused(world: World):
    cases = [('"open', REFUSED), ("'open", REFUSED), ("${NAME", REFUSED), ("${NAME!x}", REFUSED)]
    _expand(world, "Raise SyntaxProblem: silence would hide the typing mistake.", *cases)


# --- task 5 --------------------------------------------------------------------------------------


@task(5)
def test_the_image_says_what_runs(world: World):
    _same(
        world,
        "what_runs",
        ["ping"],
        ["-c1", "host"],
        [],
        expected=[["ping"], ["-c1", "host"]],
        next_step="Nothing given: the image's entrypoint and its cmd, as two lists.",
    )


@task(5, needs=("test_the_image_says_what_runs",))
def test_arguments_replace_cmd(world: World):
    _same(
        world,
        "what_runs",
        ["ping"],
        ["-c1", "host"],
        ["other"],
        expected=[["ping"], ["other"]],
        next_step="Words in `run` stand in place of CMD; the entrypoint stays.",
    )


@task(5, needs=("test_the_image_says_what_runs",))
def test_a_new_entrypoint_forgets_cmd(world: World):
    cases = [(["ping"], ["-c1", "host"], [], new, [new, []]) for new in (["sh"], [])]
    step = "CMD was meant for the old entrypoint. Ask `is not None`: an empty list counts, too."
    _each(world, "what_runs", cases, step)


# --- task 6 --------------------------------------------------------------------------------------

NAMES = ["next_instruction", "take_apart", "exec_form", "program", "expand", "what_runs"]
DOCKERFILE = """\
# Which image? --build-arg may say another.
ARG BASE=busybox
FROM $BASE
env GREETING="good morning" \\
    # a comment in mid-instruction

    WHO=ada
WORKDIR /work
RUN echo "$GREETING, $WHO" > said \\
 && echo done >> said
COPY --chmod=0600 ${WHO:-nobody}.txt ./
ENTRYPOINT ["cat"]
CMD ["said"]
"""


@task(
    6,
    needs=(
        "test_the_end_is_none",
        "test_it_goes_on_behind_the_last_line",
        "test_a_comment_inside_does_not_count",
        "test_an_empty_line_inside_does_not_count",
        "test_the_escape_character_may_be_another",
        "test_keywords_in_any_case",
        "test_flags_come_first",
        "test_a_flag_of_the_command_is_none_of_ours",
        "test_anything_else_is_the_shell_form",
        "test_other_json_is_a_command",
        "test_a_list_of_anything_else_is_refused",
        "test_the_shell_may_be_another",
        "test_names_end_where_they_end",
        "test_a_word_for_a_value",
        "test_single_quotes_keep_everything",
        "test_an_escaped_letter_is_itself",
        "test_a_value_is_not_read_again",
        "test_what_is_left_open_is_refused",
        "test_arguments_replace_cmd",
        "test_a_new_entrypoint_forgets_cmd",
    ),
)
def test_a_real_dockerfile_is_built_on_your_layer(minidock, tmp_path):
    diary, context = Diary(minidock.layers / "dockerfile.py", tmp_path, NAMES), tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "ada.txt").write_text("copied\n")
    minidock("--layers", diary.layers, "build", "-t", "mine", context)
    said = [
        minidock("--layers", diary.layers, "run", "--rm", "mine", *words)
        for words in ([], ["said", "ada.txt"])
    ]  # fmt: skip
    expect(
        said == ["good morning, ada\ndone\n", "good morning, ada\ndone\ncopied\n"],
        call="minidock --layers … build, then run mine, and run mine said ada.txt",
        result=repr(said),
        expected="'good morning, ada\\ndone\\n', and with ada.txt also 'copied\\n'",
        next_step="Build a Dockerfile of your own with --layers ~/mydock and look at `minidock history`.",
    )
    called = diary.called()
    expect(
        called == set(NAMES),
        call="minidock --layers … build and run",
        result=f"the engine called {', '.join(sorted(called))}",
        expected=f"all of {', '.join(NAMES)}",
        next_step="Do not import the library's functions under other names: write them.",
    )
