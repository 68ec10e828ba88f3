"""What work exists: the tasks, the models that travel, and the client. Producers import this and nothing else."""
