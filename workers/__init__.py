"""How work is done on a worker host."""
