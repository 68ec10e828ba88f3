"""What a worker does for each declared task: ``run(request, context) -> result``."""
