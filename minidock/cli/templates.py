"""``--format``: the part of Go's template language that people use with Docker.

``{{.Name}} {{json .Config}} {{index .Config.Labels "a"}} {{range .Mounts}}…{{end}} {{with .A}}…{{end}}
{{if eq .State "x"}}…{{else}}…{{end}} {{$x := .B}} {{.A | upper}} {{join .C ","}} {{printf "%s" .D}}``, and
``{{-``, ``-}}`` to trim white space. A template is parsed once into a tree of small tuples, and rendered
for each value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from minidock.errors import InvalidInput

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(.*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<declare>:=|=)|(?P<punctuation>[|(),])
    |(?P<field>(?:\$\w*)?(?:\.\w+)+|\.)|(?P<variable>\$\w*)|(?P<word>\w+))""",
    re.VERBOSE,
)
Node = tuple[Any, ...]


class TemplateError(InvalidInput):
    """The template is malformed, or asks for what is not there."""

    exit_code = 64


class Template:
    """A parsed template; :meth:`render` fills it with one value."""

    def __init__(self, text: str) -> None:
        self._nodes = _parse(_split(text))

    def render(self, value: Any) -> str:
        return _render(self._nodes, value, {"": value})


# ---- text → tree


def _split(text: str) -> list[Node]:
    """``[("text", "a"), ("action", "range .B"), …]`` with white space trimmed where ``-`` asks for it."""
    parts: list[Node] = []
    position, trim = 0, False
    for found in _ACTION.finditer(text):
        before = text[position : found.start()]
        before = before.lstrip() if trim else before
        parts.append(("text", before.rstrip() if found[1] else before))
        if not found[2].startswith("/*"):
            parts.append(("action", found[2]))
        position, trim = found.end(), bool(found[3])
    rest = text[position:]
    if "{{" in rest:
        raise TemplateError(f"template parsing error: unclosed action in {rest!r}")
    parts.append(("text", rest.lstrip() if trim else rest))
    return parts


def _parse(parts: list[Node]) -> list[Node]:
    nodes, end = _parse_block(parts, 0, top=True)
    assert end == len(parts)
    return nodes


def _parse_block(parts: list[Node], at: int, *, top: bool = False) -> tuple[list[Node], int]:
    """Nodes up to ``end`` or ``else`` (left for the caller)."""
    nodes: list[Node] = []
    while at < len(parts):
        kind, text = parts[at]
        if kind == "text":
            nodes.append(("text", text))
            at += 1
            continue
        word, _, rest = text.partition(" ")
        if word in ("end", "else"):
            if top:
                raise TemplateError(f"template parsing error: unexpected {{{{{word}}}}}")
            return nodes, at
        if word in ("if", "with", "range"):
            node, at = _parse_branch(parts, at, word, rest)
            nodes.append(node)
            continue
        nodes.append(("print", *_parse_pipeline(text)))
        at += 1
    if not top:
        raise TemplateError("template parsing error: unexpected EOF: {{end}} is missing")
    return nodes, at


def _parse_branch(parts: list[Node], at: int, word: str, condition: str) -> tuple[Node, int]:
    body, at = _parse_block(parts, at + 1)
    otherwise: list[Node] = []
    action = parts[at][1]
    if action.startswith("else if "):
        node, at = _parse_branch(parts, at, "if", action[len("else if ") :])
        return (word, *_parse_pipeline(condition), body, [node]), at
    if action == "else":
        otherwise, at = _parse_block(parts, at + 1)
        if parts[at][1] != "end":
            raise TemplateError("template parsing error: expected {{end}}")
    return (word, *_parse_pipeline(condition), body, otherwise), at + 1


def _parse_pipeline(text: str) -> tuple[list[str], list[Any]]:
    """``$i, $v := .A | f`` → ``(["i", "v"], [[".A"], ["f"]])``: variables to set, commands to run."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text.rstrip()):
        found = _TOKEN.match(text, position)
        if not found or not found.lastgroup:
            raise TemplateError(f"template parsing error: unexpected {text[position:].strip()!r} in command")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        position = found.end()
    if not tokens:
        raise TemplateError("template parsing error: missing value for command")
    names: list[str] = []
    for index, (kind, _) in enumerate(tokens):
        if kind == "declare":
            names = [token[1:] for which, token in tokens[:index] if which == "variable"]
            tokens = tokens[index + 1 :]
            break
    commands, rest = _parse_commands(tokens)
    if rest:
        raise TemplateError(f"template parsing error: unexpected {rest[0][1]!r}")
    return names, commands


def _parse_commands(tokens: list[tuple[str, str]]) -> tuple[list[Any], list[tuple[str, str]]]:
    commands: list[Any] = [[]]
    while tokens:
        (kind, token), tokens = tokens[0], tokens[1:]
        if token == "|" and kind == "punctuation":
            commands.append([])
        elif token == ")" and kind == "punctuation":
            return commands, [("punctuation", ")"), *tokens]
        elif token == "(" and kind == "punctuation":
            inner, tokens = _parse_commands(tokens)
            if not tokens:
                raise TemplateError("template parsing error: unclosed left paren")
            tokens = tokens[1:]
            path = ""
            if tokens and tokens[0][0] == "field":  # (index .A 0).B
                path, tokens = tokens[0][1], tokens[1:]
            commands[-1].append(("pipeline", inner, path))
        elif kind == "string":
            commands[-1].append(("constant", token[1:-1] if token[0] == "`" else json.loads(token)))
        elif kind == "number":
            commands[-1].append(("constant", float(token) if "." in token else int(token)))
        elif kind == "word" and token in ("true", "false", "nil"):
            commands[-1].append(("constant", {"true": True, "false": False}.get(token)))
        else:
            commands[-1].append((kind, token))
    if not all(commands):
        raise TemplateError("template parsing error: missing value for command")
    return commands, []


# ---- tree → text


def _render(nodes: list[Node], dot: Any, variables: dict[str, Any]) -> str:
    shown = []
    for node in nodes:
        if node[0] == "text":
            shown.append(node[1])
            continue
        names, commands = node[1], node[2]
        value = _evaluate(commands, dot, variables)
        if node[0] == "print":
            if names:
                variables[names[0]] = value
            else:
                shown.append(text_of(value))
        elif node[0] == "range":
            shown.append(_render_range(names, value, node[3], node[4], dot, variables))
        else:
            inside = {**variables, **({names[0]: value} if names else {})}
            body = node[3] if value else node[4]
            shown.append(_render(body, value if value and node[0] == "with" else dot, inside))
    return "".join(shown)


def _render_range(
    names: list[str], value: Any, body: list[Node], otherwise: list[Node], dot: Any, variables: dict[str, Any]
) -> str:
    if not value:
        return _render(otherwise, dot, dict(variables))
    pairs = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value))
    shown = []
    for key, item in pairs:
        inside = dict(variables)
        if len(names) == 2:
            inside[names[0]], inside[names[1]] = key, item
        elif names:
            inside[names[0]] = item
        shown.append(_render(body, item, inside))
    return "".join(shown)


def _evaluate(commands: list[Any], dot: Any, variables: dict[str, Any]) -> Any:
    value: Any = None
    for position, command in enumerate(commands):
        (kind, token), more = command[0][:2], command[1:]
        arguments = [_operand(operand, dot, variables) for operand in more]
        if position:
            arguments.append(value)  # a pipe hands its value on as the last argument
        if kind == "word":
            function = FUNCTIONS.get(token)
            if function is None:
                raise TemplateError(f'template parsing error: function "{token}" not defined')
            try:
                value = function(*arguments)
            except (TypeError, ValueError, KeyError, IndexError) as error:
                raise TemplateError(f"template: error calling {token}: {error}") from None
        else:
            value = _operand(command[0], dot, variables)
            if callable(value):  # {{.Label "name"}}
                value = value(*arguments)
            elif arguments:
                raise TemplateError(f"template: can't give argument to non-function {token}")
    return value


def _operand(operand: Any, dot: Any, variables: dict[str, Any]) -> Any:
    kind, token = operand[0], operand[1]
    if kind == "constant":
        return token
    if kind == "pipeline":
        return _walk(_evaluate(token, dot, variables), operand[2])
    if kind == "variable":
        return _variable(token, variables)
    if kind == "field":
        start, _, path = token.partition(".")
        return _walk(_variable(start, variables) if start else dot, path)
    return _evaluate([[operand]], dot, variables)


def _variable(token: str, variables: dict[str, Any]) -> Any:
    if token[1:] not in variables:
        raise TemplateError(f"template parsing error: undefined variable {token!r}")
    return variables[token[1:]]


def _walk(value: Any, path: str) -> Any:
    for key in filter(None, path.split(".")):
        if not isinstance(value, dict):
            raise TemplateError(f"template: <{path}>: can't evaluate field {key} in a {type(value).__name__}")
        if key not in value:
            raise TemplateError(f'template: <{path}>: map has no entry for key "{key}"')
        value = value[key]
    return value


def text_of(value: Any) -> str:
    """*value* as Go prints it: ``true``, ``[a b]``, ``map[k:v]``, ``<no value>``."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text_of(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(text_of, value)) + "]"
    return str(value)


def json_of(value: Any) -> str:
    """Compact JSON with sorted keys; what only a template can call (``.Label``) is left out."""
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not callable(item)}
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif not 0 <= key < len(value):
            raise ValueError(f"index out of range: {key}")
        else:
            value = value[key]
    return value


def _printf(pattern: str, *values: Any) -> str:
    rest = list(values)

    def fill(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        value, verb = rest.pop(0), found[0][-1]
        if verb in "vsq":
            shown = json.dumps(value) if verb == "q" else text_of(value)
            return f"%{found[0][1:-1]}s" % shown
        return str(found[0] % value)

    return re.sub(r"%[-+# 0]*\d*(?:\.\d+)?[a-zA-Z%]", fill, pattern)


def _println(*values: Any) -> str:
    return " ".join(map(text_of, values)) + "\n"


def _all(first: Any, *rest: Any) -> Any:
    for value in rest:
        if not first:
            break
        first = value
    return first


def _any(first: Any, *rest: Any) -> Any:
    for value in rest:
        if first:
            break
        first = value
    return first


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _all,
    "eq": lambda first, *others: any(first == other for other in others),
    "ge": lambda one, other: one >= other,
    "gt": lambda one, other: one > other,
    "index": _index,
    "join": lambda values, separator="": str(separator).join(map(text_of, values or [])),
    "json": json_of,
    "le": lambda one, other: one <= other,
    "len": len,
    "lower": lambda text: str(text).lower(),
    "lt": lambda one, other: one < other,
    "ne": lambda one, other: one != other,
    "not": lambda value: not value,
    "or": _any,
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "print": lambda *values: "".join(map(text_of, values)),
    "printf": _printf,
    "println": _println,
    "slice": lambda value, start=0, end=None: value[start:end],
    "split": lambda text, separator: str(text).split(separator),
    "title": lambda text: str(text).title(),
    "truncate": lambda text, length: str(text)[:length],
    "upper": lambda text: str(text).upper(),
}
