"""Building blocks of the algorithms: networks, distributions, normalisers, returns, optimizer, policy."""
