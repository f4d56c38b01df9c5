"""Named-entity recognition for spaCy: a transformer + CNN embedding and an exact, constrained CRF.

Nothing here has to be imported by hand: spaCy finds the factories, architectures, readers and commands
through entry points.
"""

__version__ = "0.1.0"
