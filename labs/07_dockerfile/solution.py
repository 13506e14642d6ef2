"""Lab 07, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

Each function stands in for the one of the same name in minidock/build/dockerfile.py. Your tools:

    text.split(None, 1)                 the first word, and the rest
    json.loads(text)                    reads JSON; raises ValueError for what is none
    re.compile(…).match(text, at)       what stands in text at index at, or None
    SyntaxProblem("…")                  the error for what cannot be understood
"""

import json
import re

from minidock.build.problems import SyntaxProblem

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def next_instruction(lines, start, escape="\\"):
    """Task 1. The first instruction at or after index start, in one line.

    lines: the lines of the file, each with its "\\n". escape: the character that continues a line.

    Returns (text, first, after): the text in one line, without spaces at its beginning or the newline;
    the index of the line where it begins; the index where to go on. None when no instruction follows.

    A line that begins with "#", spaces before it or not, is a comment. Comments and empty lines do not
    count: not between instructions, and not inside one. A line that ends in escape (spaces may follow it)
    goes on in the next line that counts. The two are joined without a space.
    """
    text, first, after = "", None, len(lines)
    for index in range(start, len(lines)):
        line = lines[index].rstrip()
        if not line.strip():
            continue
        if line.lstrip().startswith("#"):
            continue
        if first is None:
            first = index
        goes_on = line.endswith(escape)
        text += line[:-1] if goes_on else line
        if not goes_on:
            after = index + 1
            break
    return None if first is None else (text.lstrip(), first, after)


def take_apart(text, escape="\\"):
    """Task 2. "COPY --from=build a b" gives ("copy", ("--from=build",), "a b").

    The keyword in lower case, a tuple of the flags, the rest of the line without spaces around it.
    Flags are the words that begin with "--", directly behind the keyword. escape: you may ignore it here.
    """
    keyword, _, rest = text.strip().partition(" ")
    flags, rest = [], rest.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        flags.append(flag)
        rest = rest.strip()
    return keyword.lower(), tuple(flags), rest


def exec_form(text):
    """Task 3. '["ls", "-l"]' gives ["ls", "-l"]. None for a text that is no JSON list: the shell form.

    Raises SyntaxProblem for a list with anything but strings in it: that was surely not meant.
    """
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not isinstance(words, list):
        return None
    if not all(isinstance(word, str) for word in words):
        raise SyntaxProblem("the exec form is a list of strings, each in double quotes")
    return words


def program(words, exec_form, shell):
    """Task 3. The list of words to execute, for RUN, CMD and ENTRYPOINT.

    exec_form is true: words are it, as they stand. False: words is a list of one text, which goes behind
    shell, whole. shell is a list as well, for example ["/bin/sh", "-c"].
    """
    if exec_form:
        return list(words)
    return [*shell, *words]


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
    result, quote, at = "", "", 0
    while at < len(text):
        letter = text[at]
        at += 1
        if quote == "'" and letter != "'":
            result += letter
        elif letter == quote:
            quote = ""
        elif letter in ("'", '"') and not quote:
            quote = letter
        elif letter == escape and at < len(text):
            if quote and text[at] not in ('"', "$", escape):
                result += escape
            result += text[at]
            at += 1
        elif letter == "$":
            value, at = _variable(text, at, env)
            result += value
        else:
            result += letter
    if quote:
        raise SyntaxProblem(f"the quote {quote} is not closed")
    return result


def _variable(text, at, env):
    """The value of the variable whose "$" stands before index at, and the index behind it."""
    braces = text.startswith("{", at)
    name = NAME.match(text, at + braces)
    if name is None:
        return "$", at
    value = env.get(name[0], "")
    if not braces:
        return value, name.end()
    end = text.find("}", name.end())
    if end < 0:
        raise SyntaxProblem("the brace { is not closed")
    modifier, word = text[name.end() : end][:2], text[name.end() : end][2:]
    if modifier == ":-":
        value = value or word
    elif modifier == ":+":
        value = word if value else ""
    elif modifier:
        raise SyntaxProblem(f"${{…{modifier}…}} is unknown")
    return value, end + 1


def what_runs(entrypoint, cmd, arguments, new_entrypoint=None):
    """Task 5. What a container executes: two lists, the entrypoint and what stands behind it.

    entrypoint, cmd: those of the image. arguments: the words after the image's name in `run`; when there
    are some, they replace cmd. new_entrypoint: a list when `run --entrypoint` was given; it replaces the
    entrypoint, and cmd does not count any more.
    """
    if new_entrypoint is not None:
        return list(new_entrypoint), list(arguments)
    return list(entrypoint), list(arguments or cmd)
