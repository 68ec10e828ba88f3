"""Programs that run in the sandbox, each by an interpreter that has nothing of ours."""
