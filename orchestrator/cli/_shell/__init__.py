"""What all commands share: options, output, errors, exit statuses, signals."""
