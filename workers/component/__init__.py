"""The component under work: its files, its suite, its tools, its wheel."""
