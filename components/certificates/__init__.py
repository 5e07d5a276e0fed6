"""Who vouches for the site."""
