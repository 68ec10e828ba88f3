"""Generators: engines that propose tests for one module. Each is found by an entry point."""
