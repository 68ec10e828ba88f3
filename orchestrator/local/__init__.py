"""The local stack: a real broker and real workers as children of a supervisor, in ``.tta/``."""
