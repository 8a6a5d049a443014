"""How batches reach workers: a fabric opens endpoints, an endpoint runs batches."""
