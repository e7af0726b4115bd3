"""Everything that touches the machine: files, processes, progress bars, secrets."""
