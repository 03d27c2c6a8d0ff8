"""General helpers that know nothing of optical flow, networks or tracks."""
