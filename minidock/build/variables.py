"""Variables in instructions: which texts of each may hold some, and what comes out.

The builder does not ask a shell. RUN, CMD, ENTRYPOINT and HEALTHCHECK are left alone: their texts are
for the shell in the container, or for none. words.py says what a variable looks like.

Source: Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from minidock import notation
from minidock.build import dockerfile, mounts, words
from minidock.build.forms import (
    Arg,
    Copy,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Run,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from minidock.build.heredocs import Heredoc
from minidock.build.problems import SyntaxProblem
from minidock.errors import InvalidInput


def expanded(instruction: Instruction, variables: Mapping[str, str], escape: str = "\\") -> Instruction:
    """*instruction* with the values of *variables* in all texts that may hold some.

    *escape* is the escape character of the Dockerfile. Raises SyntaxProblem, which says where the
    instruction stands: ``${x:?…}``, an open quote, a value that is no port or no signal, …
    """

    def word(text: str) -> str:
        return dockerfile.expand(text, variables, escape)

    try:
        return _expanded(instruction, variables, word, escape)
    except InvalidInput as error:
        raise instruction.node.placed(error) from None


def _expanded(
    instruction: Instruction, variables: Mapping[str, str], word: Callable[[str], str], escape: str
) -> Instruction:
    match instruction:
        case From(image=image, platform=platform):
            if not word(image):
                raise SyntaxProblem(f"base name ({image}) should not be blank")
            return replace(instruction, image=word(image), platform=word(platform))
        case Run():
            known = tuple(mounts.read(each.text, word) for each in instruction.mounts)
            return replace(instruction, mounts=known)
        case Copy():
            return replace(
                instruction,
                sources=tuple(word(source) for source in instruction.sources),
                destination=word(instruction.destination),
                chown=word(instruction.chown),
                chmod=word(instruction.chmod),
                checksum=word(instruction.checksum),
                heredocs=tuple(_expanded_heredoc(each, variables) for each in instruction.heredocs),
            )
        case Env(node=node, pairs=pairs) | Label(node=node, pairs=pairs):
            done = tuple((word(name), word(value)) for name, value in pairs)
            if any(not name for name, _ in done):
                raise SyntaxProblem(f"{node.keyword.upper()} names can not be blank")
            return replace(instruction, pairs=done)
        case Arg(pairs=arguments):
            given = ((word(name), None if value is None else word(value)) for name, value in arguments)
            return replace(instruction, pairs=tuple(given))
        case Expose(ports=texts):
            ports = [port for text in texts for port in words.split(text, variables, escape)]
            return replace(instruction, ports=tuple(_exposed(port) for port in ports))
        case Volume(paths=paths):
            return replace(instruction, paths=tuple(word(path) for path in paths))
        case User(user=user):
            return replace(instruction, user=word(user))
        case Workdir(path=path):
            return replace(instruction, path=word(path))
        case StopSignal(signal=signal):
            notation.signal_name(word(signal))
            return replace(instruction, signal=word(signal))
    return instruction


def _expanded_heredoc(heredoc: Heredoc, variables: Mapping[str, str]) -> Heredoc:
    if not heredoc.expand:
        return heredoc
    # The tabs that <<- takes away are those of the Dockerfile, not those of a variable's value.
    content = words.expand_text(heredoc.text, variables)
    return replace(heredoc, content=content, expand=False, chomp=False)


def _exposed(port: str) -> str:
    """Docker reads ``EXPOSE 8080:80``, which mistakes EXPOSE for ``-p``, as 80: many Dockerfiles say so."""
    inside = port.rpartition(":")[2]
    notation.exposed_ports(inside)
    return inside
