"""What tests of a running deployment stand on: a model, a user, a load, a browser."""
