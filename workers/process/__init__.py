"""What surrounds a task in a worker: its message, its lease, its end, and what is done for tasks that were lost."""
