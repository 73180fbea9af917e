"""What a policy's text says before it runs: its syntax trees, its calls, what it reads. Evaluates nothing."""
