"""Environments that servables run in: built once from a lock, named by their digest."""
