"""Truefit: from a table to a model in production, in notebooks that are read, run and proven."""
