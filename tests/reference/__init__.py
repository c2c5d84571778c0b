"""Literal float64 transcriptions of the update rules, one learner each, to hold the product against."""
