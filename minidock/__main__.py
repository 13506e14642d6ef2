"""``python -m minidock``: the command without its launcher."""

from minidock.cli.main import main

main()
