"""What touches the machine: files, processes, progress, secrets."""
