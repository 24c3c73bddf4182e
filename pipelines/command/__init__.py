"""What a person meets: options, help, completion, screens, exit codes."""
