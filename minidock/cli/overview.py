"""The pages of ``minidock --help`` and ``minidock image --help``."""

from __future__ import annotations

from minidock.cli import verbs

SECTIONS = {
    "Common commands": "run exec ps build pull push images logs stop rm",
    "Course": "explain doctor reset lab",
    "Containers": (
        "attach commit cp create diff export inspect kill pause port rename restart start stats top unpause "
        "wait"
    ),
    "Images": "history import load login logout rmi save search tag",
    "System": "info version",
}


def of_all() -> str:
    """All verbs by section, each with its summary."""
    lines = [
        "Usage:  minidock [OPTIONS] COMMAND",
        "",
        "A container engine small enough to read in a weekend",
        "",
    ]
    for title, names in SECTIONS.items():
        lines += [f"{title}:", *(f"  {name:<10}  {summary(name)}" for name in names.split()), ""]
    lines += ["Groups:", f"  {', '.join(verbs.GROUPS)}", "", "Global options:"]
    for flag in verbs.GLOBAL_FLAGS:
        short = f"-{flag.short}, " if flag.short else "    "
        kind = "" if flag.kind == "bool" else f" {flag.kind}"
        lines.append(f"  {short}{'--' + flag.name + kind:<18}{flag.help}")
    return "\n".join([*lines, "", "Run 'minidock COMMAND --help' for more information on a command."])


def of_group(group: str) -> str:
    """The verbs of one group."""
    members = sorted(verbs.GROUPS[group].items())
    rows = [f"  {name:<10}  {summary(verb)}" for name, verb in members]
    head = [f"Usage:  minidock {group} COMMAND", "", verbs.GROUP_SUMMARIES[group], "", "Commands:"]
    return "\n".join([*head, *rows, "", f"Run 'minidock {group} COMMAND --help' for more information."])


def summary(verb: str) -> str:
    """What *verb* does, in one line; a group, too."""
    return verbs.GROUP_SUMMARIES.get(verb) or verbs.load(verb).summary
