"""The catalogue: which servable versions there are, who may see them, and where their files lie."""
