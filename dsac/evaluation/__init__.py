"""How good a policy is: scores, confidence intervals, films, and what its critics predict."""
