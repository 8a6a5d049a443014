"""Globus Compute endpoints: who registered them, who may use them, and how they are."""
