"""A page and a JSON API over a model and, where there is one, a gallery."""
