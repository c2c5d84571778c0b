"""How experience is collected: the policy acts and the envs step, here, in other processes or on a Ray cluster."""
