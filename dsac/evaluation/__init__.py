"""How good a policy is: scores, films, and what its critics predict."""
