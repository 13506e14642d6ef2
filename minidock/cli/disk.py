"""``minidock system df``: what images, containers and volumes take on disk."""

from __future__ import annotations

from minidock import human
from minidock.cli import images, ps, table, volumes
from minidock.cli.context import Context
from minidock.cli.flags import Command, UsageError, Values, boolean

_IMAGES = (
    *("Repository", "Tag", "ID", "CreatedSince", "Size"),
    *("SharedSize", "UniqueSize", "Containers"),
)
_CONTAINERS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
_VOLUMES = ("Name", "Links", "Size")


_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def df(context: Context, values: Values, arguments: list[str]) -> int:
    """Show what images, containers and volumes take on disk."""
    if values["verbose"]:
        if values["format"]:
            raise UsageError("the verbose and the format options conflict", exit_code=1)
        return _in_detail(context)
    found = context.engine.df()
    rows = []
    for part in found:
        share = round(100 * part.reclaimable / part.size) if part.size else 0
        reclaimable = human.size(part.reclaimable)
        rows.append(
            {
                "Type": part.kind,
                "TotalCount": str(part.total),
                "Active": str(part.active),
                "Size": human.size(part.size),
                "Reclaimable": f"{reclaimable} ({share}%)" if part.size else reclaimable,
            }
        )
    table.show(rows, _HEADINGS, tuple(_HEADINGS), values["format"])
    return 0


def _in_detail(context: Context) -> int:
    """Three tables, as Docker's."""
    found = context.engine.df_in_detail()
    print("Images space usage:\n")
    rows = []
    for image in found["Images"]:
        sizes = {
            "SharedSize": human.size(image["SharedSize"]),
            "UniqueSize": human.size(image["Size"] - image["SharedSize"]),
        }
        rows += [{**row, **sizes} for row in images.rows_of(image, whole=False)]
    table.show(rows, images.HEADINGS, _IMAGES, None)
    print("\nContainers space usage:\n")
    lines = [
        {**ps.row_of(row, whole=False), "Size": human.size(row["SizeRw"])} for row in found["Containers"]
    ]
    table.show(lines, ps.HEADINGS, _CONTAINERS, None)
    print("\nLocal Volumes space usage:\n")
    kept = [
        volumes.row_of(volume, human.size(volume["UsageData"]["Size"]), str(volume["UsageData"]["RefCount"]))
        for volume in found["Volumes"]
    ]
    table.show(kept, volumes.HEADINGS, _VOLUMES, None)
    return 0


COMMANDS = {
    "df": Command(
        "df [OPTIONS]",
        "Show disk usage",
        df,
        (ps.FORMAT, boolean("verbose", "v", "Show detailed information on space usage")),
        most=0,
    ),
}
