"""Who is held, admitted and refused, whatever the server."""
