"""`drain`: end a service's work before it is terminated."""
