"""Shell programs of Nginx's container: they check, install and activate a configuration."""
