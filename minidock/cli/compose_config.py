"""``minidock compose config`` and ``version``: what the files say, all told."""

from __future__ import annotations

from minidock.cli.compose import Session, verb
from minidock.cli.flags import Flag, UsageError, Values, boolean
from minidock.compose import images, labels, rendering, stack


def config(session: Session, values: Values, services: list[str]) -> int:
    """Print the resolved model, or one part of it."""
    project = session.project(services)
    chosen = project.chosen(services)
    if values["format"] not in ("yaml", "json"):
        raise UsageError(f"unsupported format {values['format']!r}", hint="yaml or json.", exit_code=1)
    if values["quiet"]:
        return 0
    profiles = {
        each
        for service in [*project.services.values(), *project.dormant.values()]
        for each in service.get("profiles") or []
    }
    parts = {
        "services": chosen,
        "volumes": list(project.volumes),
        "networks": list(project.networks),
        "images": [images.name_of(project, name) for name in chosen],
        "profiles": sorted(profiles),
    }
    for part, lines in parts.items():
        if values[part]:
            print("".join(f"{line}\n" for line in lines), end="")
            return 0
    if values["hash"]:
        wanted = project.services if values["hash"] == "*" else values["hash"].split(",")
        for name in wanted:
            project.service(name)
            print(f"{name} {labels.config_hash(project, name)}")
        return 0
    if services:
        project.services = {name: project.services[name] for name in chosen}
    model = rendering.model(project)
    if values["stack"]:
        model = stack.converted(model, session.warn)
    model = rendering.escaped(model)
    text = rendering.as_json(model) if values["format"] == "json" else rendering.as_yaml(model)
    if values["output"]:
        with open(values["output"], "w") as file:
            file.write(text)
    else:
        print(text, end="")
    return 0


def version(session: Session, values: Values, arguments: list[str]) -> int:
    """Print the version."""
    import minidock

    print(minidock.__version__ if values["short"] else f"minidock compose version {minidock.__version__}")
    return 0


_CONFIG = (
    Flag("format", help="yaml or json", default="yaml"),
    Flag("hash", help="Print the config hash of services, * for all"),
    boolean("images", help="Print the image names, one per line"),
    boolean("networks", help="Print the network names, one per line"),
    Flag("output", "o", help="Save to file (default to stdout)"),
    boolean("profiles", help="Print the profile names, one per line"),
    boolean("quiet", "q", "Only check the files, don't print anything"),
    boolean("services", help="Print the service names, one per line"),
    boolean("stack", help="As `docker stack deploy` takes it, without what a swarm does not know"),
    boolean("volumes", help="Print the volume names, one per line"),
)
COMMANDS = {
    "config": verb(
        "config [OPTIONS] [SERVICE...]", "Check, resolve and print the compose files", config, _CONFIG
    ),
    "convert": verb("convert [OPTIONS] [SERVICE...]", "The older name of config", config, _CONFIG),
    "version": verb(
        "version [OPTIONS]", "Show the version", version, (boolean("short", help="Only the number"),), most=0
    ),
}
