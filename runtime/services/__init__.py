"""Shell programs that start PostgreSQL and Redis."""
