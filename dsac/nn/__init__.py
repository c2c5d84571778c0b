"""Building blocks of the algorithms: networks, distributions, normalisers, returns, optimiser, policy."""
