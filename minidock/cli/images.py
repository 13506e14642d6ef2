"""``minidock images``, ``tag``, ``rmi``, ``history``: the local images."""

from __future__ import annotations

from typing import Any

from minidock import human
from minidock.cli import table
from minidock.cli.context import Context, each
from minidock.cli.flags import Command, Values, boolean
from minidock.cli.ps import FILTER, FORMAT
from minidock.engine import parse_filters

HEADINGS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
HISTORY_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def images(context: Context, values: Values, arguments: list[str]) -> int:
    """List images: one line a name."""
    filters = parse_filters(values["filter"])
    if arguments:
        filters.setdefault("reference", []).append(arguments[0])
    whole, found = values["no-trunc"], context.engine.image_summaries(filters)
    if values["quiet"] and not values["format"]:
        for image in found:
            print(image["Id"] if whole else short(image["Id"]))
        return 0
    rows = [row for image in found for row in rows_of(image, whole, digests=values["digests"])]
    columns = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if values["digests"]:
        columns.insert(2, "Digest")
    table.show(rows, HEADINGS, columns, values["format"])
    return 0


def rows_of(image: dict[str, Any], whole: bool, *, digests: bool = False) -> list[dict[str, Any]]:
    """The lines of one image: its tags; ``<none>`` where it has none."""
    by_repository = dict(text.split("@", 1) for text in image["RepoDigests"])
    names = [tuple(text.rsplit(":", 1)) for text in image["RepoTags"]]
    if not names:
        names = [(repository, "<none>") for repository in by_repository] or [("<none>", "<none>")]
    size = human.size(image["Size"])
    return [
        {
            "ID": image["Id"] if whole else short(image["Id"]),
            "Repository": repository,
            "Tag": tag,
            "Digest": by_repository.get(repository, "<none>"),
            "CreatedSince": human.ago(image["Created"]) if image["Created"] else "N/A",
            "CreatedAt": human.stamp(image["Created"]) if image["Created"] else "N/A",
            "Size": size,
            "Containers": str(image["Containers"]),
            "VirtualSize": size,
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        }
        for repository, tag in names
    ]


def short(digest: str) -> str:
    """The 12 digits that `docker images` shows."""
    return digest.removeprefix("sha256:")[:12]


def tag(context: Context, values: Values, arguments: list[str]) -> int:
    context.engine.tag(*arguments)
    return 0


def rmi(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove images; prints what was untagged and what was deleted."""

    def remove(name: str) -> str | None:
        return "\n".join(context.engine.rmi(name, force=values["force"]).lines()) or None

    return each(arguments, remove)


def history(context: Context, values: Values, arguments: list[str]) -> int:
    """Show the steps that made an image, newest first."""
    steps = context.engine.history(arguments[0])
    whole, plain = values["no-trunc"], not values["human"]
    rows = []
    for step in steps:
        by = " ".join(step["CreatedBy"].replace("\t", " ").split())
        rows.append(
            {
                "ID": step["Id"] if whole else short(step["Id"]),
                "CreatedSince": human.ago(step["Created"]) if step["Created"] else "N/A",
                "CreatedAt": human.stamp(step["Created"]) if step["Created"] else "N/A",
                "CreatedBy": by if whole else human.shortened(by, 45),
                "Size": str(step["Size"]) if plain else human.size(step["Size"]),
                "Comment": step["Comment"],
            }
        )
    if values["quiet"] and not values["format"]:
        for row in rows:
            print(row["ID"])
        return 0
    created = "CreatedAt" if plain else "CreatedSince"
    table.show(rows, HISTORY_HEADINGS, ("ID", created, "CreatedBy", "Size", "Comment"), values["format"])
    return 0


COMMANDS = {
    "images": Command(
        "images [OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        images,
        (
            boolean("all", "a", "Show all images (minidock keeps no intermediate ones)"),
            boolean("digests", help="Show digests"),
            FILTER,
            FORMAT,
            boolean("no-trunc", help="Don't truncate output"),
            boolean("quiet", "q", "Only show image IDs"),
        ),
        most=1,
    ),
    "tag": Command(
        "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        tag,
        least=2,
        most=2,
    ),
    "rmi": Command(
        "rmi [OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        rmi,
        (boolean("force", "f", "Force removal of the image"), boolean("no-prune", help="(nothing to keep)")),
        least=1,
    ),
    "history": Command(
        "history [OPTIONS] IMAGE",
        "Show the history of an image",
        history,
        (
            FORMAT,
            boolean("human", "H", "Print sizes and dates in human readable format", default=True),
            boolean("no-trunc", help="Don't truncate output"),
            boolean("quiet", "q", "Only show image IDs"),
        ),
        least=1,
        most=1,
    ),
}
