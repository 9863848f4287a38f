"""From labelled sections to a model that is put in use, or not."""
