"""Refactorers: what changes a component's source without changing its behaviour."""
