"""Classic BPF, the instructions that seccomp runs: from verdicts to a program.

The machine has one 32-bit register, loads from a fixed record about the call, compares, and jumps
forwards over at most 255 instructions (further with a plain JUMP). It ends with RETURN and a verdict.

Source: linux/bpf_common.h, linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import struct

from minidock.errors import InvalidInput

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant
Condition = tuple[int, str, int, int]  # argument, operator, value, second value
Chain = tuple[tuple[tuple[Condition, ...], int], ...]  # (conditions, verdict): the first that holds counts
Judgement = int | tuple[Chain, int]  # a verdict, or a chain and the bits of an argument (32 or 64)
Stretch = tuple[int, Judgement]  # from this call's number on

# Instructions. Jumps count the instructions to skip.
LOAD, RETURN, AND = 0x20, 0x06, 0x54
JUMP, IF_EQUAL, IF_GREATER, IF_AT_LEAST = 0x05, 0x15, 0x25, 0x35
# Where struct seccomp_data holds what; six 64-bit arguments follow from 16 on, low half first.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
MOST_INSTRUCTIONS, LONGEST_JUMP, WORD = 4096, 255, 0xFFFFFFFF

ALLOW, KILL_THREAD, KILL_PROCESS = 0x7FFF0000, 0x00000000, 0x80000000
TRAP, ERRNO, TRACE, LOG = 0x00030000, 0x00050000, 0x7FF00000, 0x7FFC0000
# "Not a < b" is "a >= b": such a test is its opposite with the two ways out swapped.
OPPOSITE = {"NE": "EQ", "LT": "GE", "LE": "GT"}


def assemble(sections: dict[int, list[Stretch]], default: int) -> bytes:
    """The program: which kind of program calls, then a search for the number's stretch.

    An architecture that no section covers is killed: its numbers mean other calls.
    """
    code: list[Instruction] = [(LOAD, 0, 0, ARCHITECTURE)]
    for architecture, stretches in sections.items():
        body = [(LOAD, 0, 0, NUMBER), *_search(_merged(stretches), default)]
        code += [(IF_EQUAL, 1, 0, architecture), (JUMP, 0, 0, len(body)), *body]
    code.append((RETURN, 0, 0, KILL_THREAD))
    if len(code) > MOST_INSTRUCTIONS:
        raise InvalidInput(
            f"seccomp: the profile needs {len(code)} instructions, the kernel takes {MOST_INSTRUCTIONS}"
        )
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _merged(stretches: list[Stretch]) -> list[Stretch]:
    """Neighbours with the same judgement become one."""
    merged: list[Stretch] = []
    for stretch in stretches:
        if not merged or merged[-1][1] != stretch[1]:
            merged.append(stretch)
    return merged


def _search(stretches: list[Stretch], default: int) -> list[Instruction]:
    """Binary search: is the number in the upper half? Then jump over the code of the lower one."""
    if len(stretches) == 1:
        return _judge(stretches[0][1], default)
    middle = len(stretches) // 2
    lower, upper = _search(stretches[:middle], default), _search(stretches[middle:], default)
    boundary = stretches[middle][0]
    if len(lower) <= LONGEST_JUMP:
        return [(IF_AT_LEAST, len(lower), 0, boundary), *lower, *upper]
    return [(IF_AT_LEAST, 0, 1, boundary), (JUMP, 0, 0, len(lower)), *lower, *upper]


def _judge(judgement: Judgement, default: int) -> list[Instruction]:
    if isinstance(judgement, int):
        return [(RETURN, 0, 0, judgement)]
    chain, word = judgement
    code: list[Instruction] = []
    for conditions, verdict in chain:
        code += _guarded(conditions, word, (RETURN, 0, 0, verdict))
    return [*code, (RETURN, 0, 0, default)]


def _guarded(conditions: tuple[Condition, ...], word: int, action: Instruction) -> list[Instruction]:
    """*action* behind all *conditions*; when one fails, on to what follows. Built from the end."""
    code = [action]
    for condition in reversed(conditions):
        code = _test(condition, word, len(code)) + code
    return code


def _test(condition: Condition, word: int, rest: int) -> list[Instruction]:
    """Fall through into the *rest* instructions that follow when the condition holds, else jump over them.

    The machine compares 32 bits at once: a 64-bit argument is judged by its high half first.
    """
    index, operator, value, second = condition
    if operator in OPPOSITE:
        inner = _test((index, OPPOSITE[operator], value, second), word, 1)
        return [*inner, (JUMP, 0, 0, rest)]
    masked = operator == "MASKED_EQ"
    wanted, mask = (second, value) if masked else (value, 0)
    low, high = ARGUMENTS + 8 * index, ARGUMENTS + 8 * index + 4
    compare = {"GE": IF_AT_LEAST, "GT": IF_GREATER}.get(operator, IF_EQUAL)
    tail = [(LOAD, 0, 0, low), *_masking(masked, mask), (compare, 0, rest, wanted & WORD)]
    if word == 32:
        return tail
    head = [(LOAD, 0, 0, high), *_masking(masked, mask >> 32)]
    if operator in ("EQ", "MASKED_EQ"):
        return [*head, (IF_EQUAL, 0, len(tail) + rest, wanted >> 32), *tail]
    decided = [(IF_GREATER, len(tail) + 1, 0, wanted >> 32), (IF_EQUAL, 0, len(tail) + rest, wanted >> 32)]
    return [*head, *decided, *tail]


def _masking(masked: bool, mask: int) -> list[Instruction]:
    return [(AND, 0, 0, mask & WORD)] if masked else []
