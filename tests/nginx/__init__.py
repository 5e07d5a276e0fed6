"""A real Nginx with the rendered configuration, asked by clients that never retry."""
