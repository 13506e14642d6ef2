"""minidock: a container engine small enough to read in a weekend.

This file imports nothing on purpose: every import here is paid by every start of the command.
"""

__version__ = "0.1.0"
