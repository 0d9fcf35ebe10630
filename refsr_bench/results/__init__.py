"""From rows to tables: reads what runs left on disk, never a model or a picture."""
