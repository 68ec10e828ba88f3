"""``characterize``: tests that pin what a module does today, found by calling it under a tracer.

The search itself runs inside the sandbox, in the component's own interpreter (:mod:`.program`); this side starts it,
verifies what it found in fresh processes, and writes it down as readable pytest.
"""

from workers.generators.characterize.generator import CharacterizeGenerator

__all__ = ["CharacterizeGenerator"]
