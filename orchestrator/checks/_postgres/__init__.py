"""`postgres`: PostgreSQL, and what speaks its protocol, such as PgBouncer or CockroachDB."""
