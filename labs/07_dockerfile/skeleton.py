"""Lab 07: the language of a Dockerfile. Write these functions; minidock then reads Dockerfiles with them.

Each function stands in for the one of the same name in minidock/build/dockerfile.py. Your tools:

    text.split(None, 1)                 the first word, and the rest
    json.loads(text)                    reads JSON; raises ValueError for what is none
    re.compile(…).match(text, at)       what stands in text at index at, or None
    SyntaxProblem("…")                  the error for what cannot be understood
"""

import json
import re

from minidock.build.problems import SyntaxProblem


def next_instruction(lines, start, escape="\\"):
    """Task 1. The first instruction at or after index start, in one line.

    lines: the lines of the file, each with its "\\n". escape: the character that continues a line.

    Returns (text, first, after): the text in one line, without spaces at its beginning or the newline;
    the index of the line where it begins; the index where to go on. None when no instruction follows.

    A line that begins with "#", spaces before it or not, is a comment. Comments and empty lines do not
    count: not between instructions, and not inside one. A line that ends in escape (spaces may follow it)
    goes on in the next line that counts. The two are joined without a space.
    """
    raise NotImplementedError("task 1")


def take_apart(text, escape="\\"):
    """Task 2. "COPY --from=build a b" gives ("copy", ("--from=build",), "a b").

    The keyword in lower case, a tuple of the flags, the rest of the line without spaces around it.
    Flags are the words that begin with "--", directly behind the keyword. escape: you may ignore it here.
    """
    raise NotImplementedError("task 2")


def exec_form(text):
    """Task 3. '["ls", "-l"]' gives ["ls", "-l"]. None for a text that is no JSON list: the shell form.

    Raises SyntaxProblem for a list with anything but strings in it: that was surely not meant.
    """
    raise NotImplementedError("task 3")


def program(words, exec_form, shell):
    """Task 3. The list of words to execute, for RUN, CMD and ENTRYPOINT.

    exec_form is true: words are it, as they stand. False: words is a list of one text, which goes behind
    shell, whole. shell is a list as well, for example ["/bin/sh", "-c"].
    """
    raise NotImplementedError("task 3")


def expand(text, env, escape="\\"):
    """Task 4. One word of a Dockerfile, its variables replaced and its quotes removed.

    env: a dictionary, name to value.

    $NAME and ${NAME}     the value; nothing when env has no such name
    ${NAME:-word}         word, when the value is missing or empty
    ${NAME:+word}         word, when there is a value that is not empty; else nothing
    '…'                   everything inside as it is
    "…"                   variables count inside, and so does escape before " $ and escape
    \\x                    x, whatever x is; so \\$ is a dollar
    $ and no name         a dollar

    A name has letters, digits and _, and does not begin with a digit. A value is never read again.
    Raises SyntaxProblem for an open quote or brace, and for any other ${NAME…}.
    """
    raise NotImplementedError("task 4")


def what_runs(entrypoint, cmd, arguments, new_entrypoint=None):
    """Task 5. What a container executes: two lists, the entrypoint and what stands behind it.

    entrypoint, cmd: those of the image. arguments: the words after the image's name in `run`; when there
    are some, they replace cmd. new_entrypoint: a list when `run --entrypoint` was given; it replaces the
    entrypoint, and cmd does not count any more.
    """
    raise NotImplementedError("task 5")
