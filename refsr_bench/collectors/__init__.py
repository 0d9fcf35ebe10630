"""Builders: from archives, folders or the web to a dataset on disk, one module a dataset."""
