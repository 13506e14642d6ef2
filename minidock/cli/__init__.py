"""The command line: arguments in, engine verbs, text out."""
