"""The daemon under violence: what must hold whatever happens to it."""
