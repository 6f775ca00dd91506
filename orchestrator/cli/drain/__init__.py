"""`drain`: end a service's work before it is told to end."""
