"""In which order work is done, and what a person sees of it."""
