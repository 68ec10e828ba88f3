"""The systems that are compared, one a file, each run in an environment of its own (see :mod:`.protocol`)."""
