"""An example of a robot of one's own: a gantry crane that brings a swinging load to rest at a target."""
