"""Commands for people: `make up`, `make doctor`, `make backup` and all the others."""
