"""What is said on the command line and in YAML, up to a job that can be made. No torch."""
