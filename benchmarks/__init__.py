"""How fast it is, beside its peers and beside what the work itself allows: ``make bench``."""
