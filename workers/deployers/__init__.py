"""Deployers: what brings a release to an environment, and back."""
