"""A deployment that people have becomes a stack: what they wrote is read, translated and told; nothing is touched."""
